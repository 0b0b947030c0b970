"""The reward audit: is the gold answer worth more than every trick? Verdicts are put into words elsewhere."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from gpg_vl.errors import DataError, RewardError
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.registry import RewardKind, rewards
from gpg_vl.scoring.asking import SLOW, Asker, ProbeOutcome, progress
from gpg_vl.scoring.dependence import dependence
from gpg_vl.scoring.probes import Probe, gold_completion, probes
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample

GOLD = "gold answer"
_GROUP = 8
"""Answers that a batch function gets at once, as in training."""
_DEPENDENCE = 2
"""Samples on which batch functions are tried for what scores depend on."""
_ROUNDING = 1e-9
"""Totals this close are equal."""


Pair = tuple[ProbeOutcome, ProbeOutcome]
"""What a gold answer scored, and what a trick did: in one group, where a reward takes all at once."""


@dataclass(frozen=True)
class Trial:
    """One sample: what its gold answer scored alone, and what every trick did."""

    gold: ProbeOutcome
    tricks: tuple[Pair, ...]

    @property
    def recognised(self) -> bool:
        """Whether the gold answer scores higher than anything; a reward that raises is taken at its word."""
        return bool(self.gold.error) or any(_margin(gold, trick) > _ROUNDING for gold, trick in self.tricks)


@dataclass(frozen=True)
class Finding:
    """One probe over all samples that it fits, judged by the worst of them."""

    outcome: ProbeOutcome
    """The worst: with a problem, or else closest to its sample's gold answer."""
    gold: ProbeOutcome
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
    notes: tuple[str, ...] = ()
    """What scores depend on beside the answer: nothing that fails."""
    stopped: str = ""
    """Why the rest was not asked; "" if all was."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that fail the audit."""
        return tuple(finding for finding in self.findings if finding.problem)

    @property
    def failed(self) -> bool:
        """Whether a trick succeeds, or nobody knows."""
        return bool(self.problems or self.stopped)


def audit_reward(
    name: str,
    entry: Mapping[str, Any],
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    own_data: bool = True,
    bar: bool = False,
) -> Audit:
    """Audit one reward by itself, with the options of a configuration's `entry`; its weight has no part.

    Where the samples are not the reward's own data, answer types none of whose gold answers scores higher
    than any trick are left out: the reward is not meant for them. `bar` shows what is done. Raises
    ConfigurationError for a name or options that do not exist, DataError if no gold answer gets a score.
    """
    scorer = Scorer({name: {**entry, "weight": 1.0}})
    asker = Asker(scorer, rewards.get(name).kind)
    return _audit(name, asker, samples, prompt, own_data=own_data, bar=bar)


def audit_table(
    table: Mapping[str, Any],
    samples: Sequence[Sample],
    prompt: Prompt,
    *,
    own_data: bool = True,
    bar: bool = False,
) -> list[Audit]:
    """Audit the weighted sum of a configuration's rewards, one audit per route of `by_task` with samples.

    Samples that are not the configuration's own data go down every route, whatever their task. Raises as
    `audit_reward` does, and ConfigurationError for a task without a route.
    """
    scorer = Scorer(table)
    if scorer.default is not None:
        asker = Asker(scorer, "correctness")
        return [_audit("weighted sum", asker, samples, prompt, own_data=own_data, bar=bar)]
    audits = []
    for task, route in scorer.by_task.items():
        if own_data:
            routed = [sample for sample in samples if scorer.route(sample.task) is route]
        else:
            routed = [replace(sample, task=task) for sample in samples]
        if routed:
            title = f"weighted sum of task {task}"
            asker = Asker(scorer, "correctness")
            audits.append(_audit(title, asker, routed, prompt, own_data=own_data, bar=bar))
    return audits


def _audit(
    title: str, asker: Asker, samples: Sequence[Sample], prompt: Prompt, *, own_data: bool, bar: bool
) -> Audit:
    kind = asker.kind
    golds = [Probe(GOLD, gold_completion(sample, prompt)) for sample in samples]
    with progress(f"{title}: gold answers", len(samples), shown=bar) as advance:
        scored = []
        for done, (sample, gold) in enumerate(zip(samples, golds, strict=True), 1):
            scored += [] if asker.stopped else [asker.ask(sample, gold)]
            advance(done)
    graded = [gold for gold in scored if gold.error or _graded(asker.scorer, gold)]
    trials = _tried(title, asker, graded, prompt, bar=bar)
    if not trials:
        types = ", ".join(sorted({sample.answer_type for sample in samples}))
        raise DataError(
            f"{title}: no gold answer of the {len(samples)} samples ({types}) gets a score"
            + (f", for {asker.stopped}" if asker.stopped else "")
            + "; give samples that the reward is meant for, as a folder written by `gpg-vl prepare`"
        )
    kept = trials if own_data or kind == "shaping" else _meant(trials)
    left_out = tuple(sorted(_types(trials) - _types(kept)))
    notes = (*_unpaid(kind, kept), *_notes(asker, kept))
    return Audit(title, kind, _findings(kind, kept), len(kept), len(samples), left_out, notes, asker.stopped)


def _tried(
    title: str, asker: Asker, golds: Sequence[ProbeOutcome], prompt: Prompt, *, bar: bool
) -> list[Trial]:
    """A trial for each gold answer; after three time-outs without what was not asked yet."""
    tricks = [[] if gold.error else probes(gold.sample, prompt) for gold in golds]
    trials, done = [], 0
    with progress(f"{title}: tricks", sum(map(len, tricks)), shown=bar) as advance:
        for gold, own in zip(golds, tricks, strict=True):
            at_once = _GROUP - 1 if asker.takes_groups(gold.sample) else 1
            pairs: list[Pair] = []
            for start in range(0, len(own), at_once):
                few = own[start : start + at_once]
                if not asker.stopped:
                    pairs += _pairs(asker, gold, few)
                done += len(few)
                advance(done)
            trials.append(Trial(gold, tuple(pairs)))
    return trials


def _pairs(asker: Asker, gold: ProbeOutcome, tricks: Sequence[Probe]) -> list[Pair]:
    """Tricks with the gold answer: each alone, or in one group with it where a reward takes all at once.

    A group that loses a reward is asked again one by one, which tells whose fault it is.
    """
    sample = gold.sample
    if not asker.takes_groups(sample):
        return [(gold, asker.ask(sample, trick)) for trick in tricks]
    first, *others = asker.ask_together(sample, [Probe(GOLD, gold.completion), *tricks])
    if not first.error and first.parts.keys() >= gold.parts.keys():
        return [(first, other) for other in others]
    alone = [(gold, asker.ask(sample, trick)) for trick in tricks]
    if any(one.error or one.parts.keys() < gold.parts.keys() for _, one in alone):
        return alone
    return [*alone, (gold, replace(first, probe=f"{1 + len(tricks)} answers at once"))]


def _notes(asker: Asker, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What scores of batch functions depend on beside the answer; rewards that raise are told of as such."""
    found: dict[str, str] = {}
    for trial in [trial for trial in trials if not trial.gold.error][:_DEPENDENCE]:
        group = [trial.gold.completion, *(trick.completion for _, trick in trial.tricks[: _GROUP - 1])]
        if not asker.stopped and len(group) > 1:
            with suppress(RewardError):
                found |= dependence(asker.scorer, trial.gold.sample, group)
    return tuple(found.values())


def _unpaid(kind: RewardKind, trials: Sequence[Trial]) -> list[str]:
    """Gold answers that get no more than any trick: every trick on them fails, and none is to blame."""
    golds = [trial.gold for trial in trials if trial.tricks and not trial.recognised]
    if kind == "shaping" or not golds:
        return []
    return [
        f"the gold answers of {len(golds)} of {len(trials)} samples score no more than any trick, such as "
        f"{golds[0].sample.answer!r} with {golds[0].total:g}: does the reward read them?"
    ]


def _meant(trials: Sequence[Trial]) -> Sequence[Trial]:
    """Those of the answer types that the reward is meant for; all if it seems to be meant for none."""
    types = _types([trial for trial in trials if trial.recognised])
    return [trial for trial in trials if trial.gold.sample.answer_type in types] or trials


def _types(trials: Sequence[Trial]) -> set[str]:
    return {trial.gold.sample.answer_type for trial in trials}


def _graded(scorer: Scorer, gold: ProbeOutcome) -> bool:
    """Whether the gold answer got a score, from a correctness reward if there is one."""
    route = scorer.route(gold.sample.task)
    if any(weighted.reward.kind == "correctness" for weighted in route):
        return gold.scores is not None and gold.scores.correctness is not None
    return bool(gold.parts)


def _findings(kind: RewardKind, trials: Sequence[Trial]) -> tuple[Finding, ...]:
    by_probe: dict[str, list[Pair]] = {}
    for trial in trials:
        for gold, outcome in ((trial.gold, trial.gold), *trial.tricks):
            by_probe.setdefault(outcome.probe, []).append((gold, outcome))
    return tuple(_finding(kind, pairs) for pairs in by_probe.values())


def _finding(kind: RewardKind, pairs: Sequence[Pair]) -> Finding:
    """One finding out of the (gold answer, trick) pairs of all samples."""
    judged = [(_problem(kind, gold, outcome), gold, outcome) for gold, outcome in pairs]
    problem, gold, outcome = min(judged, key=lambda one: (not one[0], _margin(one[1], one[2])))
    totals = tuple(outcome.total for _, outcome in pairs if math.isfinite(outcome.total))
    seconds = max(outcome.seconds for _, outcome in pairs)
    return Finding(outcome, gold, problem, len(pairs), totals, seconds)


def _problem(kind: RewardKind, gold: ProbeOutcome, outcome: ProbeOutcome) -> str:
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


def _margin(gold: ProbeOutcome, outcome: ProbeOutcome) -> float:
    """By how much the gold answer scores higher; without end where there is nothing to compare."""
    margin = gold.total - outcome.total
    return margin if math.isfinite(margin) else math.inf
