"""One row of a prepared data set: checked, its images in the stored form, and hashed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from datasets import Features, Image, List, Value

from gpg_vl.data.images import StoredImage, store
from gpg_vl.errors import DataError, RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import Prompt, letter, special_token
from gpg_vl.types import AnswerType, Box, Sample

FEATURES = Features(
    {
        "id": Value("string"),
        "task": Value("string"),
        "images": List(Image(decode=False)),
        "question": Value("string"),
        "choices": List(Value("string")),
        "answer": Value("string"),
        "answer_type": Value("string"),
        "meta": Value("string"),
        "reasoning": Value("string"),
    }
)
ADDED = {"reasoning": ""}
"""Columns that older sets lack, with the value that their rows have."""
_MARKS = ("<think>", "</think>", "<answer>", "</answer>")
"""What stands around reasoning and answer."""
_SLACK = 1.0
"""Pixels that a box may stick out of its image: annotations are rounded in every direction."""


@dataclass(frozen=True)
class Row:
    """A sample as it is stored."""

    columns: dict[str, Any]
    """By the names of FEATURES."""
    question_hash: str
    image_hashes: tuple[str, ...]
    unreadable_gold: str = ""
    """Why no reward can read the gold answer; empty if one can, or nobody has looked."""

    @property
    def size(self) -> int:
        """Bytes of its images."""
        return sum(len(image["bytes"]) for image in self.columns["images"])

    def content(self) -> list[bytes]:
        """Everything stored, for the data set's content hash."""
        parts = []
        for name, value in self.columns.items():
            if name == "images":
                parts += [image["bytes"] for image in value]
            elif name not in ADDED or value != ADDED[name]:  # or every set's hash would change
                parts.append(json.dumps(value, ensure_ascii=False).encode())
        return parts


def make_row(sample: Sample) -> Row:
    """Check a sample and bring its images into the stored form. Raises RowError for what cannot be used."""
    _check_texts(sample)
    images = [store(image, f"image {k} of {sample.id!r}") for k, image in enumerate(sample.images)]
    _check_answer(sample, images)
    columns = {
        "id": sample.id,
        "task": sample.task,
        "images": [{"bytes": image.data, "path": None} for image in images],
        "question": sample.question,
        "choices": list(sample.choices),
        "answer": sample.answer,
        "answer_type": sample.answer_type,
        "meta": json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True),
        "reasoning": sample.reasoning,
    }
    hashes = tuple(image.pixel_hash for image in images)
    return Row(columns, question_hash(sample.question, sample.choices), hashes)


def question_hash(question: str, choices: Sequence[str]) -> str:
    """SHA-256 of question and choices without regard to case, spacing or the choices' order."""
    texts = [" ".join(text.casefold().split()) for text in (question, *choices)]
    return hashlib.sha256(json.dumps([texts[0], sorted(texts[1:])]).encode()).hexdigest()


def _check_texts(sample: Sample) -> None:
    texts = (sample.id, sample.task, sample.question, sample.answer, sample.reasoning, *sample.choices)
    for name in ("id", "task", "question", "answer"):
        if not getattr(sample, name).strip():
            raise RowError(f"empty {name}", f"{sample.id!r}: the {name} is empty")
    try:
        "".join((*texts, json.dumps(dict(sample.meta), ensure_ascii=False))).encode()
    except UnicodeEncodeError as error:
        raise RowError("broken text", f"{sample.id!r}: a text is no Unicode: {error}") from error
    if sample.answer_type not in get_args(AnswerType):
        known = ", ".join(get_args(AnswerType))
        raise RowError(
            "unknown answer type", f"{sample.id!r}: answer type {sample.answer_type!r}; known: {known}"
        )
    try:
        Prompt().user_text(sample)
    except DataError as error:
        raise RowError("unusable question", str(error)) from error
    if token := special_token(sample.reasoning, _MARKS):
        raise RowError(
            "unusable reasoning",
            f"{sample.id!r}: the reasoning holds {token}, which ends or follows it; give the steps alone",
        )


def _check_answer(sample: Sample, images: Sequence[StoredImage]) -> None:
    if sample.answer_type == "choice":
        letters = [letter(place) for place in range(len(sample.choices))]
        if sample.answer not in letters:
            given = ", ".join(letters) or "none"
            message = f"{sample.id!r}: the answer is {sample.answer!r}, the choices are {given}"
            raise RowError("answer not among the choices", message)
    if sample.answer_type == "boxes":
        if not images:
            raise RowError("missing image", f"{sample.id!r}: the answer is boxes, but there is no image")
        for box in _boxes(sample):
            _check_box(box, images[0].size, sample.id)


def _boxes(sample: Sample) -> list[Box]:
    """The gold boxes, all of them: a list with a hole would be read as a shorter one."""
    boxes = read_boxes(sample.answer)
    try:
        listed = json.loads(sample.answer)
    except json.JSONDecodeError:
        listed = None
    if not isinstance(listed, list) or not boxes or len(listed) != len(boxes):
        raise RowError(
            "unreadable boxes",
            f"{sample.id!r}: expected a JSON list of [x1, y1, x2, y2], got {sample.answer[:80]!r}",
        )
    return list(boxes)


def _check_box(box: Box, size: tuple[int, int], where: str) -> None:
    x1, y1, x2, y2 = box
    if x1 >= x2 or y1 >= y2:
        raise RowError("empty box", f"{where!r}: the box {box} has no area; it is left, top, right, bottom")
    if min(x1, y1) < -_SLACK or x2 > size[0] + _SLACK or y2 > size[1] + _SLACK:
        raise RowError(
            "box outside the image", f"{where!r}: the box {box} leaves the image of {size[0]}×{size[1]}"
        )
