"""Sampling that goes on with fewer answers at a time once memory ran out."""

from collections.abc import Sequence

import torch

from gpg_vl.rollout.engine import Answer, Done, Request, Watch
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.runtime.memory import release_memory


class SparingEngine(OwnEngine):
    """Halves `max_concurrent` where memory runs out, as often as that helps, and goes on.

    What is complete by then is kept: answers do not depend on how many grow beside them. No process waits
    for another meanwhile.
    """

    tries = 0
    """How often memory ran out since this was last set to 0."""

    def generate(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        *,
        watch: Watch = lambda _: None,
        done: Done = lambda _, __: None,
    ) -> list[list[Answer]]:
        """As `OwnEngine.generate`; behind a failed try, `watch` sees the answers that are still missing.

        Raises OutOfMemoryError where a group grew alone.
        """
        answers: dict[int, list[Answer]] = {}
        while True:
            left = [place for place in range(len(requests)) if place not in answers]

            def keep(number: int, group: list[Answer], left: Sequence[int] = left) -> None:
                answers[left[number]] = group
                done(left[number], group)

            asked = [requests[place] for place in left]
            try:
                super().generate(asked, group_size, sampling, watch=watch, done=keep)
                return [answers[place] for place in range(len(requests))]
            except torch.OutOfMemoryError as error:
                self._halve(error, len(left), group_size)
            release_memory()

    def _halve(self, error: torch.OutOfMemoryError, questions: int, group_size: int) -> None:
        growing = min(self.max_concurrent, questions * group_size)
        if growing < 2 * group_size:
            error.add_note("lower rollout.group_size, rollout.max_new_tokens or model.max_pixels")
            raise error
        self.max_concurrent = growing // 2
        self.tries += 1
