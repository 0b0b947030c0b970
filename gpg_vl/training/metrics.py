"""What a step measures: seconds by phase, group statistics, figures of the gradient pass."""

import contextlib
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gpg_vl.algorithm.collect import Collection
from gpg_vl.evaluation.figures import EVALUATED, evaluation_metrics
from gpg_vl.runtime import profiling
from gpg_vl.runtime.parallel import World
from gpg_vl.runtime.watchdog import watched
from gpg_vl.scoring.counters import summed, taken
from gpg_vl.types import Metrics


class Clock:
    """Seconds by phase of one step; a phase longer than `limit` seconds (0: any) dumps its stacks."""

    def __init__(self, rank: int = 0, limit: float = 0.0) -> None:
        self._rank, self._limit = rank, limit
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        with watched(phase, self._rank, self._limit), profiling.phase(phase):
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


_TASKS = 20
"""Tasks with figures of their own: a tracker draws a curve for each."""


def followed_tasks(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The tasks with figures of their own, by their numbers of rows: the largest; none of a single one."""
    chosen = sorted(counts, key=lambda task: (-counts[task], task))[:_TASKS]
    return tuple(sorted(chosen)) if len(counts) > 1 else ()


def metric_name(task: str) -> str:
    """A task within a metric's name, with nothing that a tracker would change in it."""
    return re.sub(r"[^\w./-]+", "_", task).strip("/") or "_"


def task_metrics(collection: Collection, tasks: Iterable[str]) -> Metrics:
    """`accuracy/TASK` and `task_reward/TASK` of a step's groups, for those of `tasks` that it has."""
    metrics: Metrics = {}
    names = [metric_name(group.answered.sample.task) for group in collection.groups]
    for task in dict.fromkeys(map(metric_name, tasks)):
        scores = [group.scores for name, group in zip(names, collection.groups, strict=True) if name == task]
        figures = {
            "accuracy": [right for one in scores for right in one.correctness or ()],
            "task_reward": [total for one in scores for total in one.total],
        }
        metrics |= {f"{name}/{task}": sum(v) / len(v) for name, v in figures.items() if v}
    return metrics


def tracked_evaluation(evaluation: Mapping[str, Any]) -> Metrics:
    """What trackers get of an evaluation: `evaluation_metrics`, and the accuracy of each task."""
    tasks = evaluation["tasks"]
    followed = followed_tasks({task: table["accuracy"]["count"] for task, table in tasks.items()})
    by_task = {
        f"{EVALUATED}accuracy/{metric_name(task)}": tasks[task]["accuracy"]["mean"] for task in followed
    }
    return evaluation_metrics(dict(evaluation)) | by_task


def collection_metrics(collection: Collection, alpha: float, tasks: Iterable[str] = ()) -> Metrics:
    """Figures of a step's groups, of some of its `tasks` too; means over answers."""
    groups = collection.groups
    answers = [answer for group in groups for answer in group.answered.answers]
    valid = sum(group.valid for group in groups)
    metrics: Metrics = {
        "reward/mean": sum(sum(group.scores.total) for group in groups) / len(answers),
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
    for name in sorted({name for group in groups for name in group.scores.timeouts}):
        metrics[f"timeouts/{name}"] = sum(group.scores.timeouts.get(name, 0) for group in groups)
    return metrics | task_metrics(collection, tasks)


def count_metrics(world: World) -> Metrics:
    """`counts/NAME` of what rewards counted since the last call, over all processes; called by all alike."""
    counts = summed(world.gather([taken()]))
    return {f"counts/{metric_name(name)}": n for name, n in counts.items()}


def collection_tokens(collection: Collection) -> int:
    """Answer tokens sampled in a step."""
    return sum(len(answer.token_ids) for group in collection.groups for answer in group.answered.answers)


_OF_SAMPLED = ("entropy", "logprob_gap", "importance/mean", "importance/capped")
"""Means over the tokens, by the weights that sampled."""
_EXTREMES = {"importance/min": torch.amin, "importance/max": torch.amax, "logprob_gap/max": torch.amax}
"""What is no sum."""


def _ratios(difference: Tensor, cap: float) -> dict[str, Tensor]:
    """Figures of the ratios of the trainer's probabilities to the sampler's; `difference` (M,) of their logs,
    M > 0."""
    ratios = difference.double().exp()  # fp32 ends at 88 nats
    figures = {
        "logprob_gap/max": difference.abs().max(),
        "importance/min": ratios.min(),
        "importance/mean": ratios.sum(),
        "importance/max": ratios.max(),
    }
    return figures | ({"importance/capped": (ratios > cap).sum()} if cap else {})


def _joined(name: str, values: Tensor) -> Tensor:
    """One figure (n,) of several micro-batches or processes as one, ()."""
    return _EXTREMES.get(name, torch.sum)(values)


def _joined_parts(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of several processes as one's; some may lack what others have."""
    names = dict.fromkeys(name for part in parts for name in part)
    values = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: float(_joined(name, torch.tensor(v, dtype=torch.float64))) for name, v in values.items()}


class UpdateFigures:
    """Figures of micro-batches, reduced to metrics at the end of the updates of one rollout.

    They stay on the device until then.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor]] = {}
        self._tokens = 0
        self._sampled_tokens = 0
        self._norms: list[float] = []

    def add(self, loss: Tensor, sums: Mapping[str, Tensor], tokens: int) -> None:
        """One micro-batch: its loss and the loss function's own sums over its tokens."""
        self._tokens += tokens
        for name, value in {"loss": loss, **sums}.items():
            self._sums.setdefault(name, []).append(value.detach().double())

    def add_sampled(
        self, logprobs: Tensor, entropies: Tensor, sampled: Tensor, tokens: int, cap: float | None = None
    ) -> None:
        """What the weights that sampled say: entropy, and distance to the sampler's log-probabilities.

        All (M,), of which the first `tokens` count. `cap` is None where the trainer itself sampled; else the
        ratios of both are of interest, and, unless it is 0, how many were capped.
        """
        difference = (logprobs.detach() - sampled)[:tokens]
        figures = {"entropy": entropies[:tokens].sum(), "logprob_gap": difference.abs().sum()}
        if cap is not None and len(difference):
            figures |= _ratios(difference, cap)
        for name, value in figures.items():
            self._sums.setdefault(name, []).append(value.double())
        self._sampled_tokens += tokens

    def join(self, other: "UpdateFigures") -> None:
        """Add the sums of another pass."""
        for name, values in other._sums.items():
            self._sums.setdefault(name, []).extend(values)
        self._tokens += other._tokens
        self._sampled_tokens += other._sampled_tokens

    def add_norm(self, norm: float) -> None:
        """The gradient norm of one optimizer step, before clipping."""
        self._norms.append(norm)

    def metrics(self, world: World) -> Metrics:
        """`loss`, `kl` and `grad_norm` per optimizer step, other figures per token; over all processes."""
        here = [_joined(name, torch.stack(values)) for name, values in self._sums.items()]
        totals = torch.stack(here).tolist() if here else []  # a rank may have no rows
        own: dict[str, float] = dict(zip(self._sums, totals, strict=True))
        own |= {"tokens": self._tokens, "sampled_tokens": self._sampled_tokens}
        sums = _joined_parts(world.gather([own]))
        tokens, sampled_tokens = sums.pop("tokens"), sums.pop("sampled_tokens")
        divisors = dict.fromkeys(("loss", "kl"), float(len(self._norms)))
        divisors |= dict.fromkeys(_OF_SAMPLED, sampled_tokens) | dict.fromkeys(_EXTREMES, 1.0)
        figures: Metrics = {name: s / divisors.get(name, tokens) for name, s in sums.items()}
        finite = [norm for norm in self._norms if math.isfinite(norm)]
        if finite:
            figures["grad_norm"] = sum(finite) / len(finite)
        return figures | {"nonfinite": len(self._norms) - len(finite)}
