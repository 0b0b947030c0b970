"""A user's own data: a file of rows and a folder of images, or rows given in Python."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.data.gold_answers import NumberMeaning
from gpg_vl.data.row_format import FIELDS, RowOptions, row_sample
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import Draft, converter
from gpg_vl.types import AnswerType

from ._given import given_rows, plain
from ._sources import dataset_rows, json_lines

LAYOUT = "a file with one JSON object a line, a JSON file with a list of objects, or a Parquet file"


@converter("jsonl", version="4")
def jsonl(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    images: str = "",
    answer_type: AnswerType | None = None,
    task: str = "jsonl",
    fields: str = "",
    numbers: NumberMeaning = "unclear",
) -> Iterator[Draft]:
    """Convert a file with one JSON object a line, a JSON list of objects, or a Parquet file.

    A row has `question` and `answer`, and perhaps `image` (a path) or `images` (several), `choices` (texts,
    or an object by letters; `options` will do), `answer_type`, `task`, `id` and `reasoning` (a text or its
    steps; what stands in `<think>` before the answer will do); whatever else it has is kept as `meta`. One
    turn of `conversations` or `messages`, as LLaVA, VLM-R1 and ms-swift have them, may stand for question and
    answer. `<image>` in a question and answer tags around an answer are dropped. Rows that share their first
    image share `meta["cluster"]`, unless they bring their own.

    Args:
        source: the .jsonl, .json or .parquet file; in Python also the rows: a list of dicts, a
            datasets.Dataset or any other iterable of mappings, read once.
        images: folder that the images' paths start from and cannot leave; empty means the file's own, and
            for rows given in Python any path as it is.
        answer_type: of all rows, whatever they say themselves; None takes the row's own, or choice where
            there are choices. A choice may be answered by its letter, its text or both; boxes are lists of
            [x1, y1, x2, y2] in pixels of the first image as it is shown. Several answers in a list are right
            each for math and label.
        task: of rows that do not say it.
        fields: the file's own names, such as question=problem,answer=solution; reward_model.ground_truth is
            ground_truth in the object reward_model.
        numbers: what a number means as the answer to choices that it may number: text, from_0 or from_1.
    """
    renamed = _renamed(fields)
    if isinstance(source, str | Path):
        file = _existing(source)
        folder: Path | None = _folder(images) or file.parent
        rows: Iterator[tuple[int, dict[str, Any]]] = _rows(file)
        name, kind = file.name, "row" if file.suffix in (".json", ".parquet") else "line"
    else:
        folder, rows, name, kind = _folder(images), enumerate(given_rows(source), start=1), "", "row"
    options = RowOptions(folder, answer_type, task, numbers)
    for number, row in rows:
        own = dict(row)
        found = {ours: _taken(own, theirs) for theirs, ours in renamed.items()}
        mapped = {ours: value for ours, value in found.items() if value is not None}
        where = f"{name} {kind} {number}".strip()
        yield partial(row_sample, own | mapped, f"{name or kind}:{number}", where, options)


def _existing(source: str | Path) -> Path:
    if not str(source):
        raise ConfigurationError(f"jsonl needs --source: {LAYOUT}")
    file = Path(source)
    if not file.is_file():
        raise DataError(f"no file {str(source)!r}: --source is a local file: {LAYOUT}")
    return file


def _folder(images: str) -> Path | None:
    if images and not Path(images).is_dir():
        raise ConfigurationError(f"--images is the folder of the images; there is no folder {images!r}")
    return Path(images) if images else None


def _renamed(fields: str) -> Mapping[str, str]:
    """Our names by the file's. Raises ConfigurationError."""
    renamed = {}
    for pair in fields.split(",") if fields else ():
        ours, _, theirs = (part.strip() for part in pair.partition("="))
        if ours not in FIELDS or not theirs:
            raise ConfigurationError(
                f"--fields is such as question=problem,answer=solution, of {', '.join(FIELDS)}; got {pair!r}"
            )
        renamed[theirs] = ours
    return renamed


def _taken(row: dict[str, Any], name: str) -> Any:
    """What a row has under a name, which leaves the row, or under `outer.inner`; None if it has nothing."""
    if row.get(name) is not None:
        return row.pop(name)
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers from 1. Raises DataError for what is no row."""
    if file.suffix == ".parquet":
        yield from enumerate(map(plain, dataset_rows(str(file), LAYOUT)), start=1)
    elif file.suffix == ".json":
        yield from enumerate(_listed(file), start=1)
    else:
        yield from json_lines(file)


def _listed(file: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file.name} is no JSON: {error}; one object a line is a .jsonl file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file.name} is no list of JSON objects")
    return rows
