"""Seconds of the same rollouts by several engines, and how far what they say is from the trainer."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from benchmarks.inputs import noise
from benchmarks.limits import timed
from benchmarks.workloads import QUESTIONS
from gpg_vl.model.packing import pack
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt, PromptEncoder
from gpg_vl.rollout.engine import Answer, Engine, Request
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.tables import markdown_table, short_number
from gpg_vl.types import Sample

Source = Callable[[int], Sample]
"""A question by its number."""
Figures = dict[str, Any]
_WORDS = " ".join(QUESTIONS).split()
_GREEDY = 4
"""Questions that are answered greedily by every engine."""
_MAX_TOKENS = 8192
"""Of a row of the forward pass that log-probabilities are compared with."""


@dataclass(frozen=True)
class Cell:
    """One measurement: what is asked, how often, and how long the answers are."""

    group_size: int
    """G, answers per question."""
    prompts: str
    """Name of the questions' source."""
    answer_tokens: int
    """Of every answer."""


def cells(groups: Sequence[int], prompts: Sequence[str], answers: Sequence[int]) -> list[Cell]:
    """All combinations, G running fastest."""
    return [Cell(size, name, tokens) for name, tokens, size in product(prompts, answers, groups)]


def made_up(tokenizer: Any, tokens: int, side: int, number: int) -> Sample:
    """A question of about `tokens` tokens about an image of `side` pixels, or none for 0; each number's is
    another one."""
    drawn = random.Random(number)
    words = [str(number)]
    lengths = {word: len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) for word in _WORDS}
    left = tokens - len(tokenizer(str(number), add_special_tokens=False)["input_ids"])
    while left > 0:
        words.append(drawn.choice(_WORDS))
        left -= lengths[words[-1]]
    images = (noise(side, number),) if side else ()
    return Sample(str(number), "made up", " ".join(words), "noise", "label", images=images)


def never_end(policy: Policy) -> None:
    """Let every answer be as long as it may: ends of text are banned, in every engine that asks the policy
    what is never sampled and in training's log-probabilities."""
    policy.suppress(policy.eos_token_ids)


class Rates:
    """Engines that answer the same questions in turn.

    Questions come once: images and prompts that an engine remembers would be none of training's. The weights
    come anew before each turn, as they do there, which also empties the caches of engines that have them.
    """

    def __init__(
        self,
        policy: Policy,
        encoder: PromptEncoder,
        engines: Mapping[str, Engine],
        sources: Mapping[str, Source],
        *,
        rows: int,
        repeats: int,
    ) -> None:
        """`rows`: answers that grow together, a multiple of each G; the first of 1 + `repeats` turns warms
        up."""
        self.policy, self.encoder, self.engines, self.sources = policy, encoder, engines, sources
        self.rows, self.repeats = rows, repeats
        self._asked = self._version = 0

    def measure(self, cell: Cell) -> Figures:
        """Medians of seconds by engine for all answers, their prompts included, and for the weights; mean
        and largest gap to the trainer's log-probabilities."""
        sampling = Sampling(cell.answer_tokens)
        rollouts: dict[str, list[float]] = {name: [] for name in self.engines}
        syncs: dict[str, list[float]] = {name: [] for name in self.engines}
        last: dict[str, list[Answer]] = {}
        lengths: list[int] = []
        for _ in range(1 + self.repeats):
            requests = self._requests(cell.prompts, self.rows // cell.group_size)
            lengths += [request.prompt.length for request in requests]
            for name in self.engines:
                groups, sync, rollout = self._turn(name, requests, cell.group_size, sampling)
                syncs[name].append(sync)
                rollouts[name].append(rollout)
                last[name] = groups[0]
        return {
            "G": cell.group_size,
            "prompt tokens": mean(lengths),
            "answer tokens": cell.answer_tokens,
            "answers": self.rows,
            "seconds": {name: median(spent[1:]) for name, spent in rollouts.items()},
            "sync seconds": {name: median(spent[1:]) for name, spent in syncs.items()},
            "gap": {name: gap(self.policy, requests[0].prompt, group) for name, group in last.items()},
        }

    def greedy(self, prompts: str, tokens: int) -> Figures:
        """Greedy answers to a few questions: how many are the first engine's, token for token."""
        requests, sampling = self._requests(prompts, _GREEDY), Sampling(tokens, temperature=0.0)
        first, *others = [
            [group[0].token_ids for group in self._turn(name, requests, 1, sampling)[0]]
            for name in self.engines
        ]
        equal = [own == answer for other in others for own, answer in zip(first, other, strict=True)]
        return {"prompts": prompts, "answer tokens": tokens, "equal": sum(equal), "of": len(equal)}

    def _requests(self, prompts: str, count: int) -> list[Request]:
        samples = [self.sources[prompts](self._asked + number) for number in range(count)]
        names = [str(self._asked + number) for number in range(count)]
        self._asked += count
        encoded = self.encoder.encode(samples)
        return [
            Request(prompt, name, unexpanded=partial(self.encoder.unexpanded, sample))
            for prompt, name, sample in zip(encoded, names, samples, strict=True)
        ]

    def _turn(
        self, name: str, requests: Sequence[Request], group_size: int, sampling: Sampling
    ) -> tuple[list[list[Answer]], float, float]:
        """An engine's answers, and seconds of bringing it the weights and of answering."""
        engine, device = self.engines[name], self.policy.device
        groups: list[list[Answer]] = []
        self._version += 1
        sync = timed(lambda: engine.sync(self._version), device)
        rollout = timed(lambda: groups.extend(engine.generate(requests, group_size, sampling)), device)
        engine.rest()
        short = [one for group in groups for one in group if len(one.token_ids) != sampling.max_new_tokens]
        assert not short, f"{name}: {len(short)} answers ended early"
        return groups, sync, rollout


@torch.no_grad()
def gap(policy: Policy, prompt: EncodedPrompt, answers: Sequence[Answer]) -> Figures:
    """Mean and largest distance (nats) of a group's log-probabilities, at temperature 1, to the trainer's."""
    numbered = [(number, answer.token_ids) for number, answer in enumerate(answers)]
    rows = pack(
        prompt, numbered, packing="group", max_tokens=_MAX_TOKENS, token_cost=policy.token_cost
    )  # in the order of the answers
    read: list[Tensor] = [policy(policy.collate([row]).to(policy.device), 1.0)[0].cpu() for row in rows]
    said = torch.tensor([logprob for answer in answers for logprob in answer.logprobs])
    apart = (torch.cat(read) - said).abs()
    return {"mean": float(apart.mean()), "max": float(apart.max())}


def table(model: str, kind: str, measured: Sequence[Figures]) -> str:
    """A line a cell, of `own` beside `vLLM`, which ran as `kind`; a ratio above 1 is own's to win."""
    head = ["model", "engine", "G", "prompt tokens", "answer tokens", "s own", "s vLLM"]
    lines = [
        [
            model,
            kind,
            *(str(round(one[name])) for name in ("G", "prompt tokens", "answer tokens")),
            *(short_number(one["seconds"][name]) for name in ("own", "vLLM")),
            *(f"{_rate(one, name):,.0f}" for name in ("own", "vLLM")),
            f"{_rate(one, 'own') / _rate(one, 'vLLM'):.2f}",
        ]
        for one in measured
    ]
    return markdown_table([*head, "tokens/s own", "tokens/s vLLM", "own / vLLM"], lines)


def _rate(measured: Figures, name: str) -> float:
    return measured["answers"] * measured["answer tokens"] / measured["seconds"][name]


def checks(measured: Sequence[Figures], greedy: Sequence[Figures]) -> str:
    """What stands below the table: whether both sampled from what is trained, and what the weights took."""
    gaps = [
        f"{name} {max(one['gap'][name]['mean'] for one in measured):.1e} "
        f"({max(one['gap'][name]['max'] for one in measured):.1e})"
        for name in measured[0]["gap"]
    ]
    equal, of = (sum(one[name] for one in greedy) for name in ("equal", "of"))
    sent = median(one["sync seconds"]["vLLM"] for one in measured)
    return (
        f"Gap to the trainer's log-probabilities, largest mean of a cell (largest of a token), nats: "
        f"{', '.join(gaps)}. Greedy answers that are equal: {equal} of {of}. Weights to vLLM: "
        f"{short_number(sent)} s."
    )
