"""Scoring answers that stand in a file: rows in, the same rows with their scores out."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gpg_vl.prompting.prompts import BoxSpace
from gpg_vl.runtime.files import replacing
from gpg_vl.scoring.answer_files import read_answers
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.scoring.weighted import WEIGHTED_SUM

_CHUNK = 64
"""Questions in memory at a time, which workers score side by side."""


@dataclass
class Tally:
    """Scores of one reward over the rows."""

    scores: list[float] = field(default_factory=list)
    dropped: int = 0
    """Rows it could not grade."""

    def add(self, score: float | None) -> None:
        """Count one row."""
        if score is None:
            self.dropped += 1
        else:
            self.scores.append(score)


def score_file(
    scorer: Scorer,
    path: Path,
    space: BoxSpace,
    out: Path | None,
    progress: Callable[[int], None],
    folders: Sequence[str] = (),
) -> dict[str, Tally]:
    """Score each row, groups as groups; returns the scores by reward, and of the weighted sum if there are
    several.

    What files there are, and what `folders` are for, says `read_answers`. Writes the rows with their
    `scores`, null where a reward could not grade one, to `out`. `progress` gets the number of rows done.
    Raises DataError for a line that is no row, RewardError if a reward raises; `out` is then not written.
    """
    tallies: dict[str, Tally] = defaultdict(Tally)
    rows, done = read_answers(path, space, folders), 0
    with _writer(out) as write:
        while chunk := list(islice(rows, _CHUNK)):
            groups = scorer.score_groups([(one.sample, one.completions) for one in chunk])
            for one, group in zip(chunk, groups, strict=True):
                names = [weighted.name for weighted in scorer.route(one.sample.task)]
                for place, raw in enumerate(one.raws):
                    scores = _tallied(names, group, place, tallies)
                    write(json.dumps({**raw, "scores": scores}, ensure_ascii=False) + "\n")
                done += len(one.raws)
                progress(done)
    return tallies


def _tallied(
    names: Sequence[str], group: GroupScores, place: int, tallies: Mapping[str, Tally]
) -> dict[str, float | None]:
    """Scores of one answer of a group by reward, None where it was not graded; adds them to the tallies."""
    graded = {name: values[place] for name, values in group.by_reward.items()}
    scores = {name: graded.get(name) for name in names}
    for name, score in scores.items():
        tallies[name].add(score)
    if len(names) > 1:
        tallies[WEIGHTED_SUM].add(group.total[place] if graded else None)
    return scores


@contextmanager
def _writer(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """Writes to a file that is there only when it is whole; nowhere if there is no path."""
    if path is None:
        yield lambda text: None
        return
    with replacing(path) as temporary:
        try:
            with temporary.open("w", encoding="utf-8") as file:
                yield file.write
        except BaseException:
            temporary.unlink()
            raise
