"""Scoring answers that stand in a file: JSON lines in, the same lines with their scores out."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from PIL import Image, UnidentifiedImageError

from gpg_vl.errors import DataError, unknown
from gpg_vl.prompting.prompts import BoxSpace
from gpg_vl.prompting.transcripts import read_transcript
from gpg_vl.runtime.files import replacing
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.types import AnswerType, Completion, FinishReason, Sample

_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "a table": lambda value: isinstance(value, dict),
    "a table, or one as a text of JSON": lambda value: isinstance(value, dict | str),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "true or false": lambda value: isinstance(value, bool),
}
_ROW = {
    "sample": "a table",
    "completion": "a text",
    "token_count": "a whole number",
    "finish_reason": "a text",
    "think_opened": "true or false",
}
_SAMPLE = {
    "id": "a text",
    "task": "a text",
    "question": "a text",
    "answer": "a text",
    "answer_type": "a text",
    "choices": "a list of texts",
    "images": "a list of texts",
    "meta": "a table, or one as a text of JSON",
}


WEIGHTED_SUM = "weighted sum"
_CHUNK = 64
"""Rows in memory at a time, which workers score side by side."""


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    raw: Mapping[str, Any]
    sample: Sample
    completion: Completion


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


def count_lines(path: Path) -> int:
    """Lines of a file, for a progress bar. Raises DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"no file {str(path)!r} with rows to score")
    with path.open("rb") as file:
        return sum(1 for _ in file)


def read_rows(path: Path, space: BoxSpace) -> Iterator[tuple[int, Row]]:
    """Rows with their line numbers, one at a time; empty lines are passed over.

    Image paths are relative to the file's folder, boxes in answers stand in `space`. Raises DataError
    naming the line for what is no row.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = _row(line, number, path.parent, space)
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
            yield number, row


def score_file(
    scorer: Scorer, path: Path, space: BoxSpace, out: Path | None, progress: Callable[[int], None]
) -> dict[str, Tally]:
    """Score each row alone; returns the scores by reward, and of the weighted sum if there are several.

    Writes the rows with their `scores`, null where a reward could not grade one, to `out`. `progress` is
    called with the number of the line just done. Raises DataError for a line that is no row, RewardError if
    a reward raises; `out` is then not written.
    """
    tallies: dict[str, Tally] = defaultdict(Tally)
    rows = read_rows(path, space)
    with _writer(out) as write:
        while chunk := list(islice(rows, _CHUNK)):
            groups = scorer.score_groups([(row.sample, [row.completion]) for _, row in chunk])
            for (number, row), group in zip(chunk, groups, strict=True):
                names = [weighted.name for weighted in scorer.route(row.sample.task)]
                scores = _tallied(names, group, tallies)
                write(json.dumps({**row.raw, "scores": scores}, ensure_ascii=False) + "\n")
                progress(number)
    return tallies


def _tallied(
    names: Sequence[str], group: GroupScores, tallies: Mapping[str, Tally]
) -> dict[str, float | None]:
    """Scores of a group of one by reward, None where it could not be graded; adds them to the tallies."""
    graded = {name: values[0] for name, values in group.by_reward.items()}
    scores = {name: graded.get(name) for name in names}
    for name, score in scores.items():
        tallies[name].add(score)
    if len(names) > 1:
        tallies[WEIGHTED_SUM].add(group.total[0] if graded else None)
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


def _row(line: bytes, number: int, folder: Path, space: BoxSpace) -> Row:
    try:
        raw = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DataError('not a row, which is {"sample": {…}, "completion": "text"}')
    _check(raw, _ROW, ("sample", "completion"))
    sample = _sample(raw["sample"], number, folder)
    completion = read_transcript(
        raw["completion"],
        sample,
        space=space,
        think_opened=raw.get("think_opened", False),
        token_count=raw.get("token_count"),
        finish_reason=_one_of(raw.get("finish_reason", "eos"), "finish_reason", FinishReason),
    )
    return Row(raw, sample, completion)


def _sample(values: Mapping[str, Any], number: int, folder: Path) -> Sample:
    _check(values, _SAMPLE, ("answer",))
    for key in values:
        if key not in _SAMPLE:
            raise DataError(
                unknown("key of sample", key, _SAMPLE) + " Whatever else there is goes into meta."
            )
    if "answer_type" not in values and not values.get("choices"):
        types = ", ".join(get_args(AnswerType))
        raise DataError(
            f"sample.answer_type is missing, and no choices say that it is `choice`; one of: {types}"
        )
    return Sample(
        id=values.get("id", str(number)),
        task=values.get("task", ""),
        question=values.get("question", ""),
        answer=values["answer"],
        answer_type=_one_of(values.get("answer_type", "choice"), "sample.answer_type", AnswerType),
        choices=tuple(values.get("choices", ())),
        images=tuple(_image(folder / name) for name in values.get("images", ())),
        meta=_meta(values.get("meta", {})),
    )


def _meta(value: dict[str, Any] | str) -> dict[str, Any]:
    """`meta` as it is, or as prepared data sets store it: a text of JSON."""
    if isinstance(value, dict):
        return value
    try:
        meta = json.loads(value or "{}")
    except json.JSONDecodeError as error:
        raise DataError(f"'meta' is a text, and not one of JSON: {error}") from error
    if not isinstance(meta, dict):
        raise DataError(f"'meta' must be a table, got {value!r}")
    return meta


def _check(values: Mapping[str, Any], kinds: Mapping[str, str], required: tuple[str, ...]) -> None:
    for key in required:
        if key not in values:
            raise DataError(f"{key!r} is missing; there are: {', '.join(values) or 'none'}")
    for key, kind in kinds.items():
        if key in values and not _KINDS[kind](values[key]):
            raise DataError(f"{key!r} must be {kind}, got {values[key]!r}")


def _one_of(value: str, name: str, kind: Any) -> Any:
    if value not in get_args(kind):
        raise DataError(unknown(name, value, get_args(kind)))
    return value


def _image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"image {str(path)!r} cannot be read: {error}") from error
    return image
