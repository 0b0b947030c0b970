"""Preflight without a model: data, routes, gold answers, the reward audit, lengths of prompts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpg_vl.config import DataConfig, TrainConfig
from gpg_vl.data.by_difficulty import choose
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.preflight.findings import Finding, Level, Report, percent
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.answering import check_room
from gpg_vl.scoring.audit import Audit, audit_table
from gpg_vl.scoring.gold import unreadable_gold
from gpg_vl.scoring.probes import gold_completion
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.tables import short_number
from gpg_vl.types import Sample

GOLD_ROWS = 200
_AUDITED = 20
"""Rows per task that the audit tries to cheat on: some 25 completions each."""
_FULL = 1 - 1e-6
_FULL_BOXES = 0.9
"""What counts as full marks for boxes, which answers round to whole pixels."""
_MOSTLY = 0.95
"""Share of gold answers with full marks below which the rewards, not the rows, are to blame."""
_EXAMPLES = 3


def check_data(report: Report, wanted: DataConfig, scorer: Scorer | None) -> PreparedDataset:
    """Open the training data; every task needs a route. Raises DataError."""
    data = PreparedDataset.open(wanted.train)
    if wanted.by_difficulty:
        choice = choose(wanted.train, wanted.difficulty)
        report.add([Finding("difficulty", "ok", choice.note())], {"left_out_by_difficulty": choice.left_out})
        data = choice.data
    tasks = Counter(data.column("task"))
    counts = ", ".join(f"{task} {count}" for task, count in sorted(tasks.items()))
    report.add([Finding("data", "ok", f"{len(data)} rows: {counts}")], {"rows": len(data), "tasks": tasks})
    if scorer is not None:
        for task in sorted(tasks):
            report.attempt("rewards", partial(scorer.route, task))
        routed = [task for task in tasks if has_route(scorer, task)]
        report.add([Finding("rewards", "warn", note) for note in scorer.notes(routed)])
    return data


def check_rewards(report: Report, table: dict[str, Any]) -> Scorer:
    """Resolve the rewards. Raises as `Scorer` does."""
    scorer = Scorer(table)
    routes = {"": scorer.default} if scorer.default is not None else scorer.by_task
    words = [
        (f"{task}: " if task else "")
        + ", ".join(f"{one.name} × {short_number(one.weight)} ({one.reward.kind})" for one in route)
        for task, route in routes.items()
    ]
    report.add([Finding("rewards", "ok", "; ".join(words))])
    return scorer


def choose_rows(data: PreparedDataset, scorer: Scorer, seed: int) -> list[Sample]:
    """A seeded choice of rows that have rewards. Raises DataError for an unreadable image."""
    count = min(GOLD_ROWS, len(data))
    numbers = np.random.default_rng(seed).choice(len(data), count, replace=False)
    return [sample for sample in (data[int(n)] for n in sorted(numbers)) if has_route(scorer, sample.task)]


def has_route(scorer: Scorer, task: str) -> bool:
    """Whether the rewards say what a task is scored with."""
    try:
        return bool(scorer.route(task))
    except ConfigurationError:  # `check_data` has said so
        return False


@dataclass(frozen=True)
class Gold:
    """A gold answer's scores."""

    sample: Sample
    scores: GroupScores
    marks: tuple[float, ...]
    """Of the correctness rewards that graded it."""

    @property
    def full(self) -> bool:
        needed = _FULL_BOXES if self.sample.answer_type == "boxes" else _FULL
        return bool(self.marks) and min(self.marks) >= needed

    def __str__(self) -> str:
        parts = {name: short_number(values[0]) for name, values in self.scores.by_reward.items()}
        parts |= dict.fromkeys(self.scores.dropped, "not gradable")
        scores = ", ".join(f"{name} {score}" for name, score in parts.items())
        return f"{self.sample.id!r} (gold {self.sample.answer!r}): {scores}"


def check_gold(report: Report, scorer: Scorer, samples: Sequence[Sample], prompt: Prompt) -> None:
    """Score gold answers in the form that the prompt asks for. Raises RewardError."""
    completions = [(sample, [gold_completion(sample, prompt)]) for sample in samples]
    golds = [
        Gold(sample, scores, _marks(scorer, sample, scores))
        for sample, scores in zip(samples, scorer.score_groups(completions), strict=True)
    ]
    graded = [gold for gold in golds if _has_marks(scorer, gold.sample)]
    if not graded:
        report.add([Finding("gold answers", "skip", "no correctness reward says what is right")])
        return
    low = [gold for gold in graded if not gold.full]
    figures = {
        "gold_full_share": 1 - len(low) / len(graded),
        "gold_below": [str(gold) for gold in low[:_EXAMPLES]],
    }
    report.add([_gold_finding(graded, low), *_worthless(scorer, golds)], figures)


def check_readable(report: Report, scorer: Scorer, data: PreparedDataset) -> None:
    """Count gold answers, of all rows, that a reward of their route cannot read."""
    reasons: Counter[str] = Counter()
    for sample in data.without_images():
        for one in scorer.route(sample.task) if has_route(scorer, sample.task) else ():
            if reason := unreadable_gold(sample, one.reward):
                reasons[f"{one.name}: {reason}"] += 1
    if not reasons:
        return
    counts = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons.most_common())
    cure = "no group of such a row is graded, or only one spelling is right: leave the rows out, or mend them"
    report.add([Finding("unreadable gold", "warn", counts, cure)], {"unreadable_gold": dict(reasons)})


def _marks(scorer: Scorer, sample: Sample, scores: GroupScores) -> tuple[float, ...]:
    kinds = {one.name: one.reward.kind for one in scorer.route(sample.task)}
    return tuple(v[0] for name, v in scores.by_reward.items() if kinds[name] == "correctness")


def _has_marks(scorer: Scorer, sample: Sample) -> bool:
    return any(one.reward.kind == "correctness" for one in scorer.route(sample.task))


def _gold_finding(golds: Sequence[Gold], low: Sequence[Gold]) -> Finding:
    full = len(golds) - len(low)
    text = f"{full} of {len(golds)} ({percent(full, len(golds))}) get full marks"
    if not low:
        return Finding("gold answers", "ok", text)
    marks = {gold.marks for gold in golds}
    own_scale = len(marks) == 1 and min(min(marks), default=0) > 0
    level: Level = "warn" if own_scale or full >= _MOSTLY * len(golds) else "fail"
    cure = "fine if its scale ends there" if own_scale else "look at these rows, or at the reward"
    examples = "; ".join(map(str, low[:_EXAMPLES]))
    return Finding("gold answers", level, f"{text}; below: {examples}", cure)


def _worthless(scorer: Scorer, golds: Sequence[Gold]) -> list[Finding]:
    """Shaping rewards that give no gold answer anything, as the format reward where no tags are asked for."""
    best: dict[str, float] = {}
    for gold in golds:
        for one in scorer.route(gold.sample.task):
            if one.reward.kind == "shaping" and one.weight > 0:
                score = gold.scores.by_reward.get(one.name, (0.0,))[0]
                best[one.name] = max(best.get(one.name, 0.0), score)
    return [
        Finding(
            "gold answers",
            "warn",
            f"{name} gives no gold answer anything",
            f"check that the prompt asks for what {name} rewards",
        )
        for name, score in best.items()
        if score <= 0
    ]


def check_audit(report: Report, table: dict[str, Any], samples: Sequence[Sample], prompt: Prompt) -> None:
    """Try to cheat the weighted sum. Raises DataError if no gold answer gets a score."""
    seen: Counter[str] = Counter()
    few = []
    for sample in samples:
        seen[sample.task] += 1
        if seen[sample.task] <= _AUDITED:
            few.append(sample)
    report.add([_audit_finding(audit) for audit in audit_table(table, few, prompt, bar=True)])


def _audit_finding(audit: Audit) -> Finding:
    tried = f"{audit.title}: {len(audit.findings) - 1} tricks on {audit.graded} samples"
    if audit.stopped:
        cure = "raise the deadline, or mend the reward"
        return Finding("reward audit", "fail", f"{tried}, then stopped: {audit.stopped}", cure)
    if not audit.problems:
        return Finding("reward audit", "ok", f"{tried}, none scores as high as the gold answer")
    names = ", ".join(f"{finding.outcome.probe}: {finding.problem}" for finding in audit.problems[:_EXAMPLES])
    return Finding(
        "reward audit",
        "fail",
        f"{tried}, {len(audit.problems)} succeed; {names}",
        "`gpg-vl rewards audit --config FILE` shows them; mend the reward, or leave it out",
    )


@dataclass(frozen=True)
class Lengths:
    """Longest prompt that is kept, and the most image tokens of one."""

    prompt: int
    images: int


def check_lengths(
    report: Report, config: TrainConfig, data: PreparedDataset, encoder: PromptEncoder, context: int
) -> Lengths | None:
    """Count rows whose prompt is too long, or cannot be made; None where no row is left.

    `context`: tokens that the model takes.
    """
    images: list[int] = []

    def measured(sample: Sample) -> int:
        length = encoder.prompt_length(sample)
        images.append(encoder.image_tokens(sample))
        return length

    found = data.lengths_or_errors(measured)
    lengths = [length for length in found if isinstance(length, int)]
    _report_unusable(report, [error for error in found if isinstance(error, DataError)], len(found))
    limit = config.data.max_prompt_tokens
    kept = [pair for pair in zip(lengths, images, strict=True) if pair[0] <= limit]
    if lengths:
        _report_long(report, lengths, limit)
    if not kept:
        return None
    longest = max(length for length, _ in kept)
    report.attempt(
        "context",
        lambda: check_room(context, longest, config.rollout.max_new_tokens, "rollout.max_new_tokens"),
    )
    return Lengths(longest, max(tokens for _, tokens in kept))


def _report_unusable(report: Report, errors: Sequence[DataError], rows: int) -> None:
    if not errors:
        return
    text = f"{len(errors)} of {rows} rows cannot be asked, such as: {errors[0]}"
    level: Level = "fail" if len(errors) == rows else "warn"
    figures = {"rows_unusable": len(errors)}
    report.add([Finding("prompts", level, text, "they are left out: mend them, or the prompt")], figures)


def _report_long(report: Report, lengths: Sequence[int], limit: int) -> None:
    over = sum(length > limit for length in lengths)
    text = f"{over} of {len(lengths)} ({percent(over, len(lengths))}) over {limit} tokens"
    level: Level = "fail" if over == len(lengths) else "warn" if over else "ok"
    cure = "they are left out: raise data.max_prompt_tokens, or lower model.max_pixels" if over else ""
    figures = {"prompts_over_limit": over, "longest_prompt": max(lengths)}
    report.add([Finding("prompt lengths", level, f"{text}; longest {max(lengths)}", cure)], figures)
