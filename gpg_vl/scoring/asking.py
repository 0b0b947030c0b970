"""How the audit asks rewards: one answer or a group, timed, and no more after three that were too late."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from gpg_vl.errors import RewardError
from gpg_vl.registry import RewardKind
from gpg_vl.runtime.progress import ProgressBar
from gpg_vl.scoring.probes import Probe
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.types import Completion, Sample

SLOW = 0.1
"""Seconds a shaping reward may take per answer; a step of 16 questions by 8 answers pays it 128 times."""
PATIENCE = 3
"""Time-outs after which no more is asked: each costs two deadlines."""
QUICK = 1.0
"""Seconds after which a bar is worth its lines where there is no terminal."""


@dataclass(frozen=True)
class ProbeOutcome:
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


class Asker:
    """Asks the rewards of one audit."""

    def __init__(self, scorer: Scorer, kind: RewardKind) -> None:
        self.scorer, self.kind = scorer, kind
        self._late: dict[str, int] = {}

    @property
    def stopped(self) -> str:
        """Why no more is asked, in a sentence; "" as long as there is no reason."""
        late = [name for name, count in self._late.items() if count >= PATIENCE]
        return f"{' and '.join(late)} exceeded the deadline {PATIENCE} times" if late else ""

    def takes_groups(self, sample: Sample) -> bool:
        """Whether a reward of the sample's route takes all answers of a group at once."""
        return any(one.is_batch for one in self.scorer.route(sample.task))

    def ask(self, sample: Sample, probe: Probe) -> ProbeOutcome:
        """Score one completion.

        A slow one of a shaping reward again: a first call may import, and the machine may be busy.
        """
        [first] = self.ask_together(sample, [probe])
        if self.kind != "shaping" or first.seconds <= SLOW or (first.scores and first.scores.timeouts):
            return first
        return min(first, *self.ask_together(sample, [probe]), key=lambda outcome: outcome.seconds)

    def ask_together(self, sample: Sample, group: Sequence[Probe]) -> list[ProbeOutcome]:
        """Score the completions of a group in one go; each has its share of the seconds."""
        start = time.perf_counter()
        scores, error = None, ""
        try:
            scores = self.scorer.score(sample, [probe.completion for probe in group])
        except RewardError as raised:
            error = str(raised)
        seconds = (time.perf_counter() - start) / len(group)
        for name in scores.timeouts if scores else ():
            self._late[name] = self._late.get(name, 0) + 1
        return [
            ProbeOutcome(
                sample, probe.name, probe.completion, scores and _of_one(scores, place), error, seconds
            )
            for place, probe in enumerate(group)
        ]


def _of_one(scores: GroupScores, place: int) -> GroupScores:
    """One answer's part of its group's scores."""
    right = scores.correctness
    return replace(
        scores,
        by_reward={name: values[place : place + 1] for name, values in scores.by_reward.items()},
        total=scores.total[place : place + 1],
        correctness=right and right[place : place + 1],
    )


@contextmanager
def progress(title: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar, to be called with what is done; without a terminal only for work that is not quick."""
    start, bar = time.monotonic(), None
    with ExitStack() as stack:

        def advance(done: int) -> None:
            nonlocal bar
            if bar is None and shown and (sys.stderr.isatty() or time.monotonic() - start >= QUICK):
                bar = stack.enter_context(ProgressBar(title, total))
            if bar is not None:
                bar.advance(done)

        advance(0)
        yield advance
