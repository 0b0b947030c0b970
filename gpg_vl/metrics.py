"""What a step measures: seconds by phase, group statistics, figures of the gradient pass."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from gpg_vl.collect import Collection

Metrics = dict[str, float | int]


class Clock:
    """Seconds by phase of one step."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def metrics(self, tokens: int) -> Metrics:
        """`seconds/…` by phase, and sampled answer tokens per second of the whole step."""
        total = time.perf_counter() - self._start
        phases: Metrics = {f"seconds/{phase}": seconds for phase, seconds in self._seconds.items()}
        return phases | {"seconds/step": total, "tokens_per_second": tokens / total}


def is_timing(name: str) -> bool:
    """Whether a metric depends on the machine's speed: those may differ between equal runs."""
    return name.startswith("seconds/") or name == "tokens_per_second"


def collection_metrics(collection: Collection, alpha: float) -> Metrics:
    """Figures of a step's groups; means over answers."""
    groups = collection.groups
    answers = [answer for group in groups for answer in group.answered.answers]
    valid = sum(group.valid for group in groups)
    metrics: Metrics = {
        "reward/mean": float(collection.rewards.mean()),
        "groups/sampled": len(groups),
        "groups/valid": valid,
        "groups/valid_fraction": valid / len(groups),
        "groups/rounds": collection.rounds,
        "answer_tokens": sum(len(answer.token_ids) for answer in answers) / len(answers),
        "truncated_fraction": sum(a.finish_reason == "length" for a in answers) / len(answers),
    }
    if valid:
        metrics["alpha"] = alpha
    graded = [score for group in groups for score in group.scores.correctness or ()]
    if graded:
        metrics["accuracy"] = sum(graded) / len(graded)
    for name in sorted({name for group in groups for name in group.scores.by_reward}):
        scores = [score for group in groups for score in group.scores.by_reward.get(name, ())]
        metrics[f"reward/{name}"] = sum(scores) / len(scores)
    for name in sorted({name for group in groups for name in group.scores.dropped}):
        metrics[f"dropped/{name}"] = sum(name in group.scores.dropped for group in groups)
    return metrics


def collection_tokens(collection: Collection) -> int:
    """Answer tokens sampled in a step."""
    return sum(len(answer.token_ids) for group in collection.groups for answer in group.answered.answers)


class UpdateFigures:
    """Sums over micro-batches, reduced to metrics at the end of an update."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor]] = {}
        self._tokens = 0
        self._norms: list[float] = []
        self._passes = 0

    def add_tokens(self, logprobs: Tensor, entropies: Tensor, sampled: Tensor) -> None:
        """Token figures of the first pass: entropy, and distance to the sampler's log-probabilities."""
        gap = (logprobs - sampled.to(logprobs.device)).abs()
        self._add("entropy", entropies.sum())
        self._add("logprob_gap", gap.sum())
        self._tokens += len(logprobs)

    def add_loss(self, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """The loss of one micro-batch and the loss function's own figures."""
        self._add("loss", loss.detach())
        self._passes += 1
        for name, value in parts.items():
            self._add(name, value.detach())

    def add_norm(self, norm: float) -> None:
        """The gradient norm of one optimizer step, before clipping."""
        self._norms.append(norm)

    def _add(self, name: str, value: Tensor) -> None:
        self._sums.setdefault(name, []).append(value.double())

    def metrics(self) -> Metrics:
        """Token figures per token, `loss` and `kl` per update, other figures per micro-batch."""
        sums = {name: float(torch.stack(values).sum()) for name, values in self._sums.items()}
        divisors = {"entropy": self._tokens, "logprob_gap": self._tokens}
        updates = len(self._norms)
        divisors |= {name: updates for name in ("loss", "kl")}
        figures: Metrics = {name: s / divisors.get(name, self._passes) for name, s in sums.items()}
        return figures | {"grad_norm": sum(self._norms) / updates}
