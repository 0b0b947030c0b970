"""A user's own data: a .jsonl file and a folder of images."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter
from gpg_vl.registry import Draft, converter
from gpg_vl.types import AnswerType, Sample

from ._cells import file_cluster
from ._sources import inside, json_lines, open_image

FIELDS = ("id", "task", "question", "answer", "answer_type", "choices", "image", "images", "meta")


@dataclass(frozen=True)
class _Defaults:
    """What holds for rows that do not say otherwise."""

    name: str
    images: Path
    answer_type: AnswerType | None
    task: str


_IMAGE_KEYS = {"img", "imgs", "image_path", "image_paths", "image_file", "picture", "photo"}
"""Misspelt, they would make rows without images that nobody notices."""


@converter("jsonl", version="1")
def jsonl(
    source: str, *, images: str = "", answer_type: AnswerType | None = None, task: str = "jsonl"
) -> Iterator[Draft]:
    """Convert a file with one JSON object a line.

    A line has `question` and `answer`, and perhaps `image` (a path) or `images` (several), `choices` (texts),
    `answer_type`, `task` and `id`; whatever else it has is kept as `meta`. Lines that share their first image
    share `meta["cluster"]`, unless they bring their own.

    Args:
        source: the .jsonl file.
        images: folder that the images' paths start from and cannot leave; empty means the file's own.
        answer_type: of lines that do not say it; None takes choice where there are choices. A choice may be
            answered by its letter or its text; boxes are lists of [x1, y1, x2, y2] in pixels of the first
            image as it is shown.
        task: of lines that do not say it.
    """
    if not source:
        raise ConfigurationError("jsonl needs --source: a file with one JSON object a line")
    file = Path(source)
    if not file.is_file():
        raise DataError(f"no file {source!r}: --source is a local file with one JSON object a line")
    folder = Path(images) if images else file.parent
    if not folder.is_dir():
        raise ConfigurationError(f"--images is the folder of the images; there is no folder {images!r}")
    defaults = _Defaults(file.name, folder, answer_type, task)
    for number, row in json_lines(file):
        given = {name: value for name, value in row.items() if value is not None}
        yield partial(_sample, given, number, defaults)


def _sample(row: dict[str, Any], number: int, defaults: _Defaults) -> Sample:
    where = f"{defaults.name} line {number}"
    for name in ("question", "answer"):
        if name not in row:
            raise RowError("missing field", f"{where} has no {name!r}; it has: {', '.join(row) or 'nothing'}")
    if _IMAGE_KEYS & row.keys() and not {"image", "images"} & row.keys():
        raise RowError("unknown key", f"{where}: the key of an image's path is 'image', of several 'images'")
    choices = _choices(row, where)
    answer_type = _answer_type(row, choices, defaults, where)
    files = _files(row, defaults.images, where)
    return Sample(
        id=_text(row.get("id", f"{defaults.name}:{number}")),
        task=_text(row.get("task", defaults.task)),
        question=_text(row["question"]),
        answer=_answer(row["answer"], answer_type, choices, where),
        answer_type=answer_type,
        choices=choices,
        images=tuple(open_image(file, where) for file in files),
        meta=({"cluster": file_cluster(files[0].read_bytes())} if files else {}) | _meta(row, where),
    )


def _text(value: Any) -> str:
    """Texts as they are; numbers, true and false as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choices(row: dict[str, Any], where: str) -> tuple[str, ...]:
    choices = row.get("choices", [])
    if not isinstance(choices, list) or any(isinstance(choice, list | dict) for choice in choices):
        raise RowError("unusable choices", f"{where}: 'choices' is a list of texts, got {choices!r}")
    return tuple(_text(choice) for choice in choices)


def _answer_type(
    row: dict[str, Any], choices: tuple[str, ...], defaults: _Defaults, where: str
) -> AnswerType:
    """The line's own, the option, or choice; the writer refuses types that do not exist."""
    given: AnswerType | None = row.get("answer_type", defaults.answer_type)
    if given is None and not choices:
        raise DataError(
            f"{where} has neither 'answer_type' nor 'choices': say with --answer_type how such answers are "
            "compared: number, math, boxes or label"
        )
    return given or "choice"


def _answer(answer: Any, answer_type: str, choices: tuple[str, ...], where: str) -> str:
    if answer_type == "choice":
        return _chosen(_text(answer).strip(), choices, where)
    if answer_type == "boxes":
        boxes = read_boxes(_text(answer))
        return json.dumps([list(box) for box in boxes]) if boxes else _text(answer)
    return _text(answer).strip()


def _chosen(answer: str, choices: tuple[str, ...], where: str) -> str:
    """The letter in brackets of an answer given as "(B)", "B", "b" or the choice's text.

    Raises RowError if it is none of the choices, or a letter and another choice's text.
    """
    letters = [letter(place) for place in range(min(len(choices), 26))]
    if answer in letters:
        return answer
    named = {f"({answer.upper()})"} & set(letters)
    said = {name for name, text in zip(letters, choices, strict=False) if _same(text, answer)}
    if len(named | said) > 1:
        raise RowError("ambiguous answer", f"{where}: {answer!r} may be {' or '.join(sorted(named | said))}")
    if not named | said:
        message = f"{where}: the answer {answer!r} is none of the choices: {', '.join(choices)}"
        raise RowError("answer not among the choices" if answer else "empty answer", message)
    return (named | said).pop()


def _same(text: str, answer: str) -> bool:
    return " ".join(text.casefold().split()) == " ".join(answer.casefold().split())


def _files(row: dict[str, Any], folder: Path, where: str) -> list[Path]:
    if "image" in row and "images" in row:
        raise RowError("unusable path", f"{where} has both 'image' and 'images'; give one of them")
    paths = [row["image"]] if "image" in row else row.get("images", [])
    if not isinstance(paths, list):
        raise RowError("unusable path", f"{where}: 'images' is a list of paths, got {paths!r}")
    return [inside(folder, path, where) for path in paths]


def _meta(row: dict[str, Any], where: str) -> dict[str, Any]:
    meta = row.get("meta", {})
    if not isinstance(meta, dict):
        raise RowError("unusable meta", f"{where}: 'meta' is an object, got {meta!r}")
    return {**meta, **{name: value for name, value in row.items() if name not in FIELDS}}
