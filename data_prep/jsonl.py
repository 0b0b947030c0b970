"""A user's own data: a file of rows and a folder of images."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.registry import Draft, converter
from gpg_vl.types import AnswerType, Sample

from ._cells import file_cluster, image_bytes, tagged_answer
from ._golds import NumberMeaning, chosen
from ._sources import dataset_rows, inside, json_lines, open_image

FIELDS = ("id", "task", "question", "answer", "answer_type", "choices", "image", "images", "meta")
LAYOUT = "a file with one JSON object a line, a JSON file with a list of objects, or a Parquet file"


@dataclass(frozen=True)
class _Asked:
    """What the command says about all rows."""

    images: Path
    answer_type: AnswerType | None
    task: str
    numbers: NumberMeaning


_IMAGE_KEYS = {"img", "imgs", "image_path", "image_paths", "image_file", "picture", "photo"}
"""Misspelt, they would make rows without images that nobody notices."""
_PLACEHOLDER = re.compile(r"\s*<(?:image|img|ImageHere)>\s*")
"""Where an image stands in the texts of other tools; here images always come before the question."""
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@converter("jsonl", version="2")
def jsonl(
    source: str,
    *,
    images: str = "",
    answer_type: AnswerType | None = None,
    task: str = "jsonl",
    fields: str = "",
    numbers: NumberMeaning = "unclear",
) -> Iterator[Draft]:
    """Convert a file with one JSON object a line, a JSON list of objects, or a Parquet file.

    A row has `question` and `answer`, and perhaps `image` (a path) or `images` (several), `choices` (texts,
    or an object by letters; `options` will do), `answer_type`, `task` and `id`; whatever else it has is kept
    as `meta`. One turn of `conversations` or `messages`, as LLaVA, VLM-R1 and ms-swift have them, may stand
    for question and answer. `<image>` in a question and answer tags around an answer are dropped. Rows that
    share their first image share `meta["cluster"]`, unless they bring their own.

    Args:
        source: the .jsonl, .json or .parquet file.
        images: folder that the images' paths start from and cannot leave; empty means the file's own.
        answer_type: of all rows, whatever they say themselves; None takes the row's own, or choice where
            there are choices. A choice may be answered by its letter, its text or both; boxes are lists of
            [x1, y1, x2, y2] in pixels of the first image as it is shown. Several answers in a list are right
            each for math and label.
        task: of rows that do not say it.
        fields: the file's own names, such as question=problem,answer=solution.
        numbers: what a number means as the answer to choices that it may number: text, from_0 or from_1.
    """
    if not source:
        raise ConfigurationError(f"jsonl needs --source: {LAYOUT}")
    file = Path(source)
    if not file.is_file():
        raise DataError(f"no file {source!r}: --source is a local file: {LAYOUT}")
    folder = Path(images) if images else file.parent
    if not folder.is_dir():
        raise ConfigurationError(f"--images is the folder of the images; there is no folder {images!r}")
    asked = _Asked(folder, answer_type, task, numbers)
    renamed = _renamed(fields)
    for number, row in _rows(file):
        own = {name: value for name, value in row.items() if value is not None}
        mapped = {ours: own.pop(theirs) for theirs, ours in renamed.items() if theirs in own}
        yield partial(_sample, own | mapped, f"{file.name}:{number}", _where(file, number), asked)


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


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers from 1. Raises DataError for what is no row."""
    if file.suffix == ".parquet":
        yield from enumerate(dataset_rows(str(file), LAYOUT), start=1)
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


def _where(file: Path, number: int) -> str:
    return f"{file.name} {'row' if file.suffix in ('.json', '.parquet') else 'line'} {number}"


def _sample(row: dict[str, Any], id: str, where: str, asked: _Asked) -> Sample:
    row = _spoken(row, where)
    for name in ("question", "answer"):
        if name not in row:
            raise RowError(
                "missing field",
                f"{where} has no {name!r}; it has: {', '.join(row) or 'nothing'}. "
                f"Other names are given by --fields {name}=NAME",
            )
    if _IMAGE_KEYS & row.keys() and not {"image", "images"} & row.keys():
        raise RowError("unknown key", f"{where}: the key of an image's path is 'image', of several 'images'")
    choices = _choices(row, where)
    answer_type = _answer_type(row, choices, asked, where)
    files = _files(row, asked.images, where)
    answer, others = _answers(row["answer"], answer_type, choices, asked, where)
    meta = _meta(row, where) | ({"alternatives": others} if others else {})
    return Sample(
        id=_text(row.get("id", id)),
        task=_text(row.get("task", asked.task)),
        question=_question(row["question"], len(files), where),
        answer=answer,
        answer_type=answer_type,
        choices=choices,
        images=tuple(open_image(file, where) for file in files),
        meta=({"cluster": file_cluster(_data(files[0]))} if files else {}) | meta,
    )


def _data(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()


def _text(value: Any) -> str:
    """Texts as they are; numbers, true and false as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _spoken(row: dict[str, Any], where: str) -> dict[str, Any]:
    """`row` with question and answer out of its one turn of conversation, if it has such."""
    name = next((name for name in ("conversations", "messages") if name in row), None)
    if name is None or "question" in row:
        return row
    turns: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for turn in row[name] if isinstance(row[name], list) else [row[name]]:
        role = _ROLES.get(str(turn.get("from", turn.get("role")))) if isinstance(turn, dict) else None
        if role is None:
            raise RowError("unusable conversation", f"{where}: {name!r} is a list of human and gpt turns")
        turns[role].append(_said(turn.get("value", turn.get("content", "")), where))
    if len(turns["user"]) != 1 or len(turns["assistant"]) > 1:
        raise RowError(
            "several turns", f"{where}: one question and its answer make a row, not a conversation"
        )
    rest = {key: value for key, value in row.items() if key != name}
    spoken = {"answer": turns["assistant"][0]} if turns["assistant"] else {}
    return {"question": turns["user"][0], **spoken, **rest}


def _said(content: Any, where: str) -> str:
    """The text of a turn, which may be a list of parts: {"type": "text", "text": …} and images."""
    if not isinstance(content, list):
        return _text(content)
    parts = [part for part in content if isinstance(part, dict)]
    if len(parts) < len(content) or any(part.get("type") not in ("text", "image") for part in parts):
        raise RowError("unusable conversation", f"{where}: a turn's parts are texts and images")
    return "\n".join(_text(part["text"]) for part in parts if part.get("type") == "text" and "text" in part)


def _question(value: Any, images: int, where: str) -> str:
    """The question without other tools' placeholders. Raises RowError if they are more than the images."""
    text = _text(value)
    if (count := len(_PLACEHOLDER.findall(text))) > images:
        raise RowError("missing image", f"{where}: {count} <image> in the question, and {images} images")
    return _PLACEHOLDER.sub("\n", text).strip() if count else text


def _choices(row: dict[str, Any], where: str) -> tuple[str, ...]:
    choices = row.get("choices", row.get("options", []))
    if isinstance(choices, dict):
        by_letter = {str(name).upper(): text for name, text in choices.items() if text is not None}
        letters = [chr(ord("A") + place) for place in range(len(by_letter))]
        if sorted(by_letter) != letters:
            raise RowError("unusable choices", f"{where}: choices by letter are A, B, …, got {choices!r}")
        choices = [by_letter[letter] for letter in letters]
    if not isinstance(choices, list) or any(isinstance(choice, list | dict) for choice in choices):
        raise RowError("unusable choices", f"{where}: 'choices' is a list of texts, got {choices!r}")
    while choices and choices[-1] is None:  # columns of a table, more than this row needs
        choices = choices[:-1]
    return tuple(_text(choice) for choice in choices)


def _answer_type(row: dict[str, Any], choices: tuple[str, ...], asked: _Asked, where: str) -> AnswerType:
    """The option, the row's own, or choice; the writer refuses types that do not exist."""
    given: AnswerType | None = asked.answer_type or row.get("answer_type")
    if given is None and not choices:
        raise DataError(
            f"{where} has neither 'answer_type' nor 'choices': say with --answer_type how such answers are "
            "compared: number, math, boxes or label"
        )
    return given or "choice"


def _answers(
    value: Any, answer_type: str, choices: tuple[str, ...], asked: _Asked, where: str
) -> tuple[str, list[str]]:
    """The gold answer, and others that are as right. Raises RowError for what the type has no use for."""
    if answer_type == "boxes":
        text = tagged_answer(_text(value))
        boxes = read_boxes(text)
        if boxes and max(map(max, boxes)) <= 1:
            raise RowError(
                "boxes from 0 to 1", f"{where}: {text} is no box in pixels; multiply by the image's size"
            )
        return (json.dumps([list(box) for box in boxes]) if boxes else text), []
    if isinstance(value, dict):
        raise RowError("unusable answer", f"{where}: the answer is an object: {value!r}")
    values = value if isinstance(value, list) else [value]
    texts = list(dict.fromkeys(tagged_answer(_text(one)).strip() for one in values))
    if len(texts) != 1 and answer_type not in ("math", "label"):
        raise RowError("several answers", f"{where}: a {answer_type} has one answer, got {value!r}")
    if not texts:
        raise RowError("empty answer", f"{where}: the answer is an empty list")
    if answer_type == "choice":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_place = is_number or (
            texts[0].isdigit() and (asked.numbers != "unclear" or texts[0] not in choices)
        )
        return chosen(texts[0], choices, where, asked.numbers if is_place else "text"), []
    return texts[0], texts[1:]


def _files(row: dict[str, Any], folder: Path, where: str) -> list[Path | bytes]:
    if "image" in row and "images" in row:
        raise RowError("unusable path", f"{where} has both 'image' and 'images'; give one of them")
    cells = row.get("image", row.get("images", []))
    cells = cells if isinstance(cells, list) else [cells]
    return [_file(cell, folder, where) for cell in cells if cell not in ("", None)]


def _file(cell: Any, folder: Path, where: str) -> Path | bytes:
    """A path below `folder`, or the bytes that a Parquet file holds."""
    if isinstance(cell, bytes) or (isinstance(cell, dict) and cell.get("bytes")):
        return image_bytes(cell, where)
    return inside(folder, cell["path"] if isinstance(cell, dict) and "path" in cell else cell, where)


def _meta(row: dict[str, Any], where: str) -> dict[str, Any]:
    meta = row.get("meta", {})
    if isinstance(meta, str):  # as prepared sets store it
        try:
            meta = json.loads(meta or "{}")
        except json.JSONDecodeError:
            meta = None
    if not isinstance(meta, dict):
        raise RowError("unusable meta", f"{where}: 'meta' is an object, got {meta!r}")
    used = {*FIELDS, *(() if "choices" in row else ("options",))}
    return {**meta, **{name: value for name, value in row.items() if name not in used}}
