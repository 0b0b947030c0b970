"""The reward audit: is the gold answer worth more than every trick? Printing is left to the commands."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpg_vl.errors import DataError, RewardError
from gpg_vl.probes import gold_completion, probes
from gpg_vl.prompts import Prompt
from gpg_vl.registry import RewardKind, rewards
from gpg_vl.scoring import GroupScores, Scorer
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


Pair = tuple[Outcome, Outcome]
"""What a sample's gold answer scored, and what one of its probes did."""


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

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that fail the audit."""
        return tuple(finding for finding in self.findings if finding.problem)


def audit_reward(name: str, entry: Mapping[str, Any], samples: Sequence[Sample], prompt: Prompt) -> Audit:
    """Audit one reward by itself, with the options of a configuration's `entry`; its weight has no part.

    Raises ConfigurationError for a name or options that do not exist, DataError if no sample's gold answer
    gets a score.
    """
    scorer = Scorer({name: {**entry, "weight": 1.0}})
    return _audit(name, rewards.get(name).kind, scorer, samples, prompt)


def audit_table(
    table: Mapping[str, Any],
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    any_task: bool = False,
) -> list[Audit]:
    """Audit the weighted sum of a configuration's rewards, one audit per route of `by_task` with samples.

    With `any_task` every sample goes down every route, whatever its own task: for samples that are not the
    configuration's own data. Raises as `audit_reward` does, and ConfigurationError for a task without route.
    """
    scorer = Scorer(table)
    if scorer.default is not None:
        return [_audit("weighted sum", "correctness", scorer, samples, prompt)]
    audits = []
    for task, route in scorer.by_task.items():
        if any_task:
            own = [replace(sample, task=task) for sample in samples]
        else:
            own = [sample for sample in samples if scorer.route(sample.task) is route]
        if own:
            audits.append(_audit(f"weighted sum of task {task}", "correctness", scorer, own, prompt))
    return audits


def _audit(title: str, kind: RewardKind, scorer: Scorer, samples: Sequence[Sample], prompt: Prompt) -> Audit:
    golds = [_score(scorer, sample, GOLD, gold_completion(sample, prompt)) for sample in samples]
    fitting = [gold for gold in golds if gold.error or _graded(scorer, gold)]
    if not fitting:
        types = ", ".join(sorted({sample.answer_type for sample in samples}))
        raise DataError(
            f"{title}: no gold answer of the {len(samples)} samples ({types or 'none'}) gets a score; give "
            "samples that the reward is meant for, as a folder written by `gpg-vl prepare`"
        )
    scored: dict[str, list[Pair]] = {GOLD: [(gold, gold) for gold in fitting]}
    for gold in fitting:
        for probe in () if gold.error else probes(gold.sample, prompt):
            outcome = _score(scorer, gold.sample, probe.name, probe.completion)
            scored.setdefault(probe.name, []).append((gold, outcome))
    findings = tuple(_finding(kind, pairs) for pairs in scored.values())
    return Audit(title, kind, findings, len(fitting), len(samples))


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


def _finding(kind: RewardKind, pairs: Sequence[Pair]) -> Finding:
    """One finding for all samples of a probe."""
    judged = [(_problem(kind, gold, outcome), gold, outcome) for gold, outcome in pairs]
    problem, gold, outcome = min(judged, key=lambda one: (not one[0], _margin(one[1], one[2])))
    totals = tuple(outcome.total for _, outcome in pairs if math.isfinite(outcome.total))
    return Finding(outcome, gold, problem, len(pairs), totals, max(outcome.seconds for _, outcome in pairs))


def _problem(kind: RewardKind, gold: Outcome, outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    if lost := sorted(gold.parts.keys() - outcome.parts.keys()):
        return f"no finite score from {', '.join(lost)}: the whole group would lose that reward"
    if kind == "correctness" and outcome is not gold and _margin(gold, outcome) < _ROUNDING:
        return "scores as high as the gold answer"
    if kind == "shaping" and outcome.seconds > SLOW:
        return f"takes longer than {SLOW} s"
    return ""


def _margin(gold: Outcome, outcome: Outcome) -> float:
    """By how much the gold answer scores higher; without end where there is nothing to compare."""
    margin = gold.total - outcome.total
    return margin if math.isfinite(margin) else math.inf
