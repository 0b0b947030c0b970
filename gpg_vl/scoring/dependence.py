"""Whether a batch function scores each answer for itself: ranks do not, and say so; others are told of."""

from collections.abc import Mapping, Sequence

from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.types import Completion, Sample

_CURE = "; if that is meant, as of a rank, declare it with @reward(relative=True)"
_ROUNDING = 1e-9


def dependence(scorer: Scorer, sample: Sample, completions: Sequence[Completion]) -> dict[str, str]:
    """What the score of an answer depends on beside the answer, in a sentence by reward.

    The same answers are scored twice, backwards, and one by one. Rewards that are declared `relative` and
    those that get one answer at a time are not looked at. Raises RewardError if a reward raises.
    """
    names = [one.name for one in scorer.route(sample.task) if one.is_batch and not one.reward.relative]
    if not names:
        return {}
    together, again = (scorer.score(sample, completions).by_reward for _ in range(2))
    backwards = _by_place(scorer.score_groups([(sample, completions[::-1])]), reverse=True)
    alone = _by_place(scorer.score_groups([(sample, [one]) for one in completions]))
    found = {name: _told(name, together, again, backwards, alone) for name in names if name in together}
    return {name: text for name, text in found.items() if text}


def _by_place(groups: Sequence[GroupScores], *, reverse: bool = False) -> Mapping[str, Sequence[float]]:
    """Scores of all answers, by reward that graded every group, in their first order."""
    graded = set.intersection(*(set(group.by_reward) for group in groups))
    scores = {name: [score for group in groups for score in group.by_reward[name]] for name in graded}
    return {name: values[::-1] for name, values in scores.items()} if reverse else scores


def _told(name: str, together: Mapping[str, Sequence[float]], *others: Mapping[str, Sequence[float]]) -> str:
    """The first difference to the others: again, backwards, alone."""
    count = len(together[name])
    texts = (
        "the same answers score otherwise from call to call ({}, then {}): groups differ by chance alone",
        f"an answer's score depends on its place among the {count} ({{}}, and {{}} in reverse order){_CURE}",
        f"an answer's score depends on the others of its group ({{}} among {count}, {{}} alone){_CURE}",
    )
    for text, other in zip(texts, others, strict=True):
        for one, two in zip(together[name], other.get(name, together[name]), strict=True):
            if abs(one - two) > _ROUNDING:
                return f"{name}: " + text.format(f"{one:g}", f"{two:g}")
    return ""
