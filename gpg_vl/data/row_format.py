"""The row format of users' own data: a mapping with question and answer, as other tools write it too."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from gpg_vl.data.gold_answers import NumberMeaning, as_text, gold_answer
from gpg_vl.data.images import file_cluster, image_bytes, inside, open_image, pixel_hash
from gpg_vl.errors import RowError
from gpg_vl.types import AnswerType, Sample

FIELDS = (
    "id",
    "task",
    "question",
    "answer",
    "answer_type",
    "choices",
    "image",
    "images",
    "reasoning",
    "meta",
)
_IMAGE_KEYS = {"img", "imgs", "image_path", "image_paths", "image_file", "picture", "photo"}
"""Misspelt, they would make rows without images that nobody notices."""
_PLACEHOLDER = re.compile(r"\s*<(?:image|img|ImageHere)>\s*")
"""Where an image stands in the texts of other tools; here images always come before the question."""
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
"""A solution that opens with its reasoning."""
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class RowOptions:
    """What holds for all rows of a source."""

    images: Path | None = None
    """The folder that images' paths start from and cannot leave; None takes any path as it is."""
    answer_type: AnswerType | None = None
    """Of all rows, whatever they say themselves; None takes the row's own, or choice where it has choices."""
    task: str = ""
    """Of rows that do not say it."""
    numbers: NumberMeaning = "unclear"
    cure: str = ""
    """What to do about a row without an answer type; "" names the options of `gpg-vl prepare jsonl`."""
    needed: tuple[str, ...] = ("question", "answer")
    """What a row must have."""


def row_sample(row: Mapping[str, Any], id: str, where: str, options: RowOptions) -> Sample:
    """The sample that a row is; null is as good as absent, and whatever else the row has is kept as `meta`.

    `id` is that of a row that brings none, `where` names the row in messages. An image is a path, the bytes
    of a file, `{"bytes": …, "path": …}` or a PIL image. Raises RowError for a row that cannot be used.
    """
    row = _spoken({name: value for name, value in row.items() if value is not None}, where)
    _check_keys(row, where, options)
    choices = _choices(row, where)
    answer_type = _answer_type(row, choices, where, options)
    images = list(_images(row, options.images, where))
    reasoning, bare = _parted(row)
    answer, others = gold_answer(bare, answer_type, choices, where, options.numbers)
    meta = _meta(row, where) | ({"alternatives": others} if others else {})
    return Sample(
        id=as_text(row.get("id", id)),
        task=as_text(row.get("task", options.task)),
        question=_question(row.get("question", ""), len(images), where),
        answer=answer,
        answer_type=answer_type,
        choices=choices,
        images=tuple(image for image, _ in images),
        meta=({"cluster": images[0][1]} if images else {}) | meta,
        reasoning=reasoning,
    )


def _parted(row: Mapping[str, Any]) -> tuple[str, Any]:
    """The reasoning, the row's own or that before its answer, and the answer without it; steps are lines."""
    answer = row["answer"]
    thought = _THOUGHT.fullmatch(answer) if isinstance(answer, str) else None
    own = row.get("reasoning", thought[1] if thought else "")
    lines = own if isinstance(own, list) else [own]
    return "\n".join(map(as_text, lines)).strip(), thought[2].strip() if thought else answer


def _check_keys(row: Mapping[str, Any], where: str, options: RowOptions) -> None:
    for name in options.needed:
        if name not in row:
            raise RowError(
                "missing field",
                f"{where} has no {name!r}; it has: {', '.join(map(str, row)) or 'nothing'}"
                + ("" if options.cure else f". Other names are given by --fields {name}=NAME"),
            )
    if _IMAGE_KEYS & row.keys() and not {"image", "images"} & row.keys():
        raise RowError("unknown key", f"{where}: the key of an image's path is 'image', of several 'images'")


def _spoken(row: dict[str, Any], where: str) -> dict[str, Any]:
    """`row` with question and answer out of its one turn of conversation, if it has such.

    `question` may hold the conversation itself, as TRL's column `prompt` does, up to its answer.
    """
    name = "question" if isinstance(row.get("question"), list) else _conversation(row)
    if name is None:
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


def _conversation(row: Mapping[str, Any]) -> str | None:
    """The key of a row's conversation, where nothing else is its question."""
    names = [] if "question" in row else [name for name in ("conversations", "messages") if name in row]
    return next(iter(names), None)


def _said(content: Any, where: str) -> str:
    """The text of a turn, which may be a list of parts: {"type": "text", "text": …} and images.

    A list of numbers is a box, the answer of VLM-R1's files.
    """
    if not isinstance(content, list) or (content and all(isinstance(part, int | float) for part in content)):
        return as_text(content)
    parts = [part for part in content if isinstance(part, dict)]
    if len(parts) < len(content) or any(part.get("type") not in ("text", "image") for part in parts):
        raise RowError("unusable conversation", f"{where}: a turn's parts are texts and images")
    return "\n".join(as_text(part["text"]) for part in parts if part.get("type") == "text" and "text" in part)


def _question(value: Any, images: int, where: str) -> str:
    """The question without other tools' placeholders. Raises RowError if they are more than the images."""
    text = as_text(value)
    if (count := len(_PLACEHOLDER.findall(text))) > images:
        raise RowError("missing image", f"{where}: {count} <image> in the question, and {images} images")
    return _PLACEHOLDER.sub("\n", text).strip() if count else text


def _choices(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
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
    return tuple(as_text(choice) for choice in choices)


def _answer_type(
    row: Mapping[str, Any], choices: Sequence[str], where: str, options: RowOptions
) -> AnswerType:
    """The option, the row's own, or choice; the writer of data sets refuses types that do not exist."""
    given: AnswerType | None = options.answer_type or row.get("answer_type")
    if given is None and not choices:
        types = ", ".join(kind for kind in get_args(AnswerType) if kind != "choice")
        raise RowError(
            "missing answer_type",
            f"{where} has neither 'answer_type' nor 'choices': the key 'answer_type' says how the answer is "
            f"compared: {types}; {options.cure or '--answer_type says it for all rows'}",
        )
    return given or "choice"


def _images(row: Mapping[str, Any], folder: Path | None, where: str) -> Iterator[tuple[Image.Image, str]]:
    """The row's images, each with what groups the rows that share it."""
    if "image" in row and "images" in row:
        raise RowError("unusable path", f"{where} has both 'image' and 'images'; give one of them")
    cells = row.get("image", row.get("images", []))
    for cell in cells if isinstance(cells, list) else [cells]:
        if isinstance(cell, Image.Image):
            yield cell, pixel_hash(cell)
        elif cell not in ("", None):
            file = _file(cell, folder, where)
            yield (
                open_image(file, where),
                file_cluster(file if isinstance(file, bytes) else file.read_bytes()),
            )


def _file(cell: Any, folder: Path | None, where: str) -> Path | bytes:
    """A path, below the folder if there is one, or the bytes of a file."""
    if isinstance(cell, bytes) or (isinstance(cell, dict) and cell.get("bytes")):
        return image_bytes(cell, where)
    path = cell["path"] if isinstance(cell, dict) and "path" in cell else cell
    if folder is None and isinstance(path, str) and path.strip():
        return Path(path).expanduser()
    return inside(folder or Path(), path, where)


def _meta(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    meta = row.get("meta", {})
    if isinstance(meta, str):  # as prepared sets store it
        try:
            meta = json.loads(meta or "{}")
        except json.JSONDecodeError:
            meta = None
    if not isinstance(meta, dict):
        raise RowError("unusable meta", f"{where}: 'meta' is an object, got {row['meta']!r}")
    used = {*FIELDS, *(() if "choices" in row else ("options",))}
    meta = {**meta, **{name: value for name, value in row.items() if name not in used}}
    for name, value in meta.items():
        _check_storable(name, value, where)
    return meta


def _check_storable(name: str, value: Any, where: str) -> None:
    try:
        json.dumps({name: value})
    except (TypeError, ValueError) as error:
        raise RowError(
            "unusable meta",
            f"{where}: {name!r} cannot be kept as JSON ({error}): leave it out, or make it text or numbers",
        ) from error
