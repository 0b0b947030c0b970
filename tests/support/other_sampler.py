"""A sampler that is not the trainer: the policy's own engine, with log-probabilities that are off."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gpg_vl.rollout.own import OwnEngine

OFF = 1.2
"""Nats, at most: ratios lie between exp(-1.2) and exp(1.2), 0.3 and 3.3."""


def disagree(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let every engine of this process be off from now on, each token by what its id and place say.

    `put` is setattr, or monkeypatch's.
    """
    plain = OwnEngine._answers

    def off(self: OwnEngine, *rest: Any) -> list[Any]:
        return [
            replace(
                answer,
                version=self.version + 7,
                logprobs=tuple(
                    logprob + OFF * math.sin(3 * place + token)
                    for place, (token, logprob) in enumerate(
                        zip(answer.token_ids, answer.logprobs, strict=True)
                    )
                ),
            )
            for answer in plain(self, *rest)
        ]

    put(OwnEngine, "_answers", off)
    put(OwnEngine, "own", False)
