"""SAT (Ray et al. 2024): spatial questions about one or two rendered images."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from gpg_vl.errors import ConfigurationError, DataError, RowError, unknown
from gpg_vl.prompting.prompts import letter
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Sample

from ._cells import image_cell, numbered_rows, text_cell, texts_cell

LAYOUT = (
    "the folder or one file of array/SAT (SAT_train.parquet: image_bytes, question, answers, question_type, "
    "correct_answer) or of array/SAT-v2 (data/train-*.parquet: images in place of image_bytes)"
)
COLUMNS = ("question", "answers", "question_type", "correct_answer")


@converter("sat", version="1")
def sat(
    source: str, *, split: str = "train", images: int = 0, question_type: str = "", seed: int = 0
) -> Iterator[Draft]:
    """Convert SAT in either published layout, the choices of each question in random order.

    Args:
        source: array/SAT-v2, array/SAT, or a local folder or file of either.
        split: train (175,000 rows), static (127,000 rows of one image), val, or test (150 real photographs).
        images: 1 or 2 takes only questions about so many images, 0 all.
        question_type: takes only this type, such as ego_movement; empty takes all.
        seed: of the choices' order, which also depends on the row; the published order may give the answer
            away.

    Source: SAT, arXiv 2412.07755.
    """
    if images not in (0, 1, 2):
        raise ConfigurationError(f"images of sat is 1, 2, or 0 for all; got {images}")
    types: set[str] = set()
    for number, row in numbered_rows(source, LAYOUT, COLUMNS, splits=(split,)):
        types.add(str(row["question_type"]))
        if question_type in ("", row["question_type"]) and _has(row, images):
            yield partial(_sample, row, f"sat-{split}-{number}", seed)
    if question_type and question_type not in types:
        raise DataError(unknown("question type of SAT", question_type, types))


def _image_cells(row: dict[str, Any]) -> list[Any]:
    return row.get("images") or row.get("image_bytes") or []


def _has(row: dict[str, Any], count: int) -> bool:
    """Whether the row has `count` images (0: any); one without any is kept, to be counted as bad."""
    found = len(_image_cells(row))
    return not count or not found or found == count


def _sample(row: dict[str, Any], id: str, seed: int) -> Sample:
    cells = _image_cells(row)
    if not cells:
        raise RowError("missing image", f"{id}: the row holds no image")
    opened = [image_cell(cell, id) for cell in cells]
    choices = texts_cell(row, "answers", id)
    gold = text_cell(row, "correct_answer", id)
    random.Random(f"{seed} {id}").shuffle(choices)
    if gold not in choices:
        raise RowError("answer not among the choices", f"{id}: {gold!r} is not one of {choices}")
    if len(set(choices)) < len(choices):
        raise RowError("repeated choice", f"{id}: {choices}")
    return Sample(
        id=id,
        task=f"sat/{text_cell(row, 'question_type', id)}",
        question=text_cell(row, "question", id),
        choices=tuple(choices),
        answer=letter(choices.index(gold)),
        answer_type="choice",
        images=tuple(image for image, _ in opened),
        meta={"cluster": opened[0][1]},
    )
