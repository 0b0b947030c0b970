"""The reward audit: is the gold answer worth more than every trick? Printing is left to the commands."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from gpg_vl.errors import DataError, RewardError
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.registry import RewardKind, rewards
from gpg_vl.scoring.probes import gold_completion, probes
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.types import Completion, Sample

SLOW = 0.1
"""Seconds a shaping reward may take per answer; a step of 16 questions by 8 answers pays it 128 times."""
GOLD = "gold answer"
_ROUNDING = 1e-9
"""Totals this close are equal."""


@dataclass(frozen=True)
class Outcome:
    """What one completion scored."""

    sample: Sample
    probe: str
    completion: Completion
    scores: GroupScores | None
    """None if a reward raised."""
    error: str
    """What it raised; else empty."""
    seconds: float

    @property
    def total(self) -> float:
        """Weighted sum of what could be graded; NaN if a reward raised, or none graded."""
        return self.scores.total[0] if self.scores and self.scores.by_reward else math.nan

    @property
    def parts(self) -> Mapping[str, float]:
        """Unweighted scores by reward, those that graded the completion."""
        return {name: values[0] for name, values in self.scores.by_reward.items()} if self.scores else {}


@dataclass(frozen=True)
class Trial:
    """One sample: what its gold answer scored, and what every trick did."""

    gold: Outcome
    tricks: tuple[Outcome, ...]

    @property
    def recognised(self) -> bool:
        """Whether the gold answer scores higher than anything; a reward that raises is taken at its word."""
        return bool(self.gold.error) or any(_margin(self.gold, trick) > _ROUNDING for trick in self.tricks)


@dataclass(frozen=True)
class Finding:
    """One probe over all samples that it fits, judged by the worst of them."""

    outcome: Outcome
    """The worst: with a problem, or else closest to its sample's gold answer."""
    gold: Outcome
    """What that sample's gold answer scored."""
    problem: str
    """Empty if there is none."""
    samples: int
    totals: tuple[float, ...]
    """The finite ones over all samples."""
    seconds: float
    """The slowest answer's."""


@dataclass(frozen=True)
class Audit:
    """The verdict on a reward, or on the weighted sum of several."""

    title: str
    kind: RewardKind
    """`correctness`: the gold answer must score highest. `shaping`: finite and fast is enough."""
    findings: tuple[Finding, ...]
    """The gold answer's first, then one for each probe."""
    graded: int
    """Samples whose gold answer got a score; the others are left out."""
    samples: int
    left_out: tuple[str, ...] = ()
    """Answer types that the reward is evidently not meant for; of samples that are not its own data only."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that fail the audit."""
        return tuple(finding for finding in self.findings if finding.problem)


def audit_reward(
    name: str, entry: Mapping[str, Any], samples: Sequence[Sample], prompt: Prompt, *, own_data: bool = True
) -> Audit:
    """Audit one reward by itself, with the options of a configuration's `entry`; its weight has no part.

    Where the samples are not the reward's own data, answer types none of whose gold answers scores higher
    than any trick are left out: the reward is not meant for them. Raises ConfigurationError for a name or
    options that do not exist, DataError if no gold answer gets a score.
    """
    scorer = Scorer({name: {**entry, "weight": 1.0}})
    return _audit(name, rewards.get(name).kind, scorer, samples, prompt, own_data)


def audit_table(
    table: Mapping[str, Any], samples: Sequence[Sample], prompt: Prompt, *, own_data: bool = True
) -> list[Audit]:
    """Audit the weighted sum of a configuration's rewards, one audit per route of `by_task` with samples.

    Samples that are not the configuration's own data go down every route, whatever their task. Raises as
    `audit_reward` does, and ConfigurationError for a task without a route.
    """
    scorer = Scorer(table)
    if scorer.default is not None:
        return [_audit("weighted sum", "correctness", scorer, samples, prompt, own_data)]
    audits = []
    for task, route in scorer.by_task.items():
        if own_data:
            routed = [sample for sample in samples if scorer.route(sample.task) is route]
        else:
            routed = [replace(sample, task=task) for sample in samples]
        if routed:
            title = f"weighted sum of task {task}"
            audits.append(_audit(title, "correctness", scorer, routed, prompt, own_data))
    return audits


def _audit(
    title: str, kind: RewardKind, scorer: Scorer, samples: Sequence[Sample], prompt: Prompt, own_data: bool
) -> Audit:
    golds = [_score(scorer, sample, GOLD, gold_completion(sample, prompt)) for sample in samples]
    trials = [_trial(scorer, gold, prompt) for gold in golds if gold.error or _graded(scorer, gold)]
    if not trials:
        types = ", ".join(sorted({sample.answer_type for sample in samples}))
        raise DataError(
            f"{title}: no gold answer of the {len(samples)} samples ({types}) gets a score; give samples "
            "that the reward is meant for, as a folder written by `gpg-vl prepare`"
        )
    kept = trials if own_data or kind == "shaping" else _meant(trials)
    left_out = _types(trials) - _types(kept)
    return Audit(title, kind, _findings(kind, kept), len(kept), len(samples), tuple(sorted(left_out)))


def _trial(scorer: Scorer, gold: Outcome, prompt: Prompt) -> Trial:
    tricks = [] if gold.error else probes(gold.sample, prompt)
    return Trial(gold, tuple(_score(scorer, gold.sample, trick.name, trick.completion) for trick in tricks))


def _meant(trials: Sequence[Trial]) -> Sequence[Trial]:
    """Those of the answer types that the reward is meant for; all if it seems to be meant for none."""
    types = _types([trial for trial in trials if trial.recognised])
    return [trial for trial in trials if trial.gold.sample.answer_type in types] or trials


def _types(trials: Sequence[Trial]) -> set[str]:
    return {trial.gold.sample.answer_type for trial in trials}


def _graded(scorer: Scorer, gold: Outcome) -> bool:
    """Whether the gold answer got a score, from a correctness reward if there is one."""
    route = scorer.route(gold.sample.task)
    if any(weighted.reward.kind == "correctness" for weighted in route):
        return gold.scores is not None and gold.scores.correctness is not None
    return bool(gold.parts)


def _score(scorer: Scorer, sample: Sample, probe: str, completion: Completion) -> Outcome:
    """Score one completion; a slow one again, since a first call may import, and the machine may be busy."""
    first = _score_once(scorer, sample, probe, completion)
    if first.seconds <= SLOW:
        return first
    return min(first, _score_once(scorer, sample, probe, completion), key=lambda outcome: outcome.seconds)


def _score_once(scorer: Scorer, sample: Sample, probe: str, completion: Completion) -> Outcome:
    start = time.perf_counter()
    scores, error = None, ""
    try:
        scores = scorer.score(sample, [completion])
    except RewardError as raised:
        error = str(raised)
    return Outcome(sample, probe, completion, scores, error, time.perf_counter() - start)


def _findings(kind: RewardKind, trials: Sequence[Trial]) -> tuple[Finding, ...]:
    by_probe: dict[str, list[tuple[Outcome, Outcome]]] = {}
    for trial in trials:
        for outcome in (trial.gold, *trial.tricks):
            by_probe.setdefault(outcome.probe, []).append((trial.gold, outcome))
    return tuple(_finding(kind, pairs) for pairs in by_probe.values())


def _finding(kind: RewardKind, pairs: Sequence[tuple[Outcome, Outcome]]) -> Finding:
    """One finding out of the (gold answer, trick) pairs of all samples."""
    judged = [(_problem(kind, gold, outcome), gold, outcome) for gold, outcome in pairs]
    problem, gold, outcome = min(judged, key=lambda one: (not one[0], _margin(one[1], one[2])))
    totals = tuple(outcome.total for _, outcome in pairs if math.isfinite(outcome.total))
    seconds = max(outcome.seconds for _, outcome in pairs)
    return Finding(outcome, gold, problem, len(pairs), totals, seconds)


def _problem(kind: RewardKind, gold: Outcome, outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    if lost := sorted(gold.parts.keys() - outcome.parts.keys()):
        return f"no finite score from {', '.join(lost)}: the whole group would lose that reward"
    for name, score in outcome.parts.items():
        bounds = _bounds(name)
        if bounds is not None and not bounds[0] <= score <= bounds[1]:
            return f"{name} gives {score:g}, outside its range {list(bounds)}"
    if kind == "correctness" and outcome is not gold and _margin(gold, outcome) < _ROUNDING:
        return "scores as high as the gold answer"
    if kind == "shaping" and outcome.seconds > SLOW:
        return f"takes longer than {SLOW} s"
    return ""


@cache
def _bounds(name: str) -> tuple[float, float] | None:
    return rewards.get(name).bounds


def _margin(gold: Outcome, outcome: Outcome) -> float:
    """By how much the gold answer scores higher; without end where there is nothing to compare."""
    margin = gold.total - outcome.total
    return margin if math.isfinite(margin) else math.inf
