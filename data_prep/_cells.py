"""Cells of published rows: texts, images, and the conventions of R1-style data sets about answer tags."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from PIL import Image

from gpg_vl.data.images import file_cluster, image_bytes, open_image
from gpg_vl.errors import DataError, RowError

from ._sources import dataset_rows

_TAG = re.compile(r"</?(?:think|answer)>")
_INSTRUCTION = re.compile(r"\s*Output the thinking process in <think>.*", re.DOTALL)


def numbered_rows(
    source: str, layout: str, columns: Sequence[str], *, splits: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
    """`dataset_rows` with their numbers, from 0. Raises DataError if one of `columns` is missing."""
    for number, row in enumerate(dataset_rows(source, layout, splits=splits)):
        if missing := [column for column in columns if column not in row]:
            raise DataError(
                f"{source!r} has no column {missing[0]!r}; it has: {', '.join(row)}. "
                f"This converter reads {layout}"
            )
        yield number, row


def text_cell(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text of a cell, stripped. Raises RowError if there is none."""
    text = row.get(column)
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"empty {column}", f"{where}: {column} is {text!r}")
    return text.strip()


def texts_cell(row: Mapping[str, Any], column: str, where: str) -> list[str]:
    """The texts of a cell that holds a list, each stripped. Raises RowError if there are none."""
    texts = row.get(column)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RowError(f"empty {column}", f"{where}: {column} is {texts!r}, no list of texts")
    return [text.strip() for text in texts]


def refuse(error: RowError) -> NoReturn:
    """A draft that makes no row, for a row that is bad before it is known what drafts it has."""
    raise error


def image_cell(cell: object, where: str) -> tuple[Image.Image, str]:
    """The image of a cell, not decoded, and what groups the rows that share it.

    Paths beside the bytes do not: they are often all the same. Raises RowError if there is no image.
    """
    data = image_bytes(cell, where)
    return open_image(data, where), file_cluster(data)


def bare_question(problem: str, where: str) -> str:
    """`problem` without the instructions about tags that some data sets append.

    Raises RowError if tags are left: the wording is another one, and the prompt adds its own instructions.
    """
    question = _INSTRUCTION.sub("", problem).strip()
    if tag := _TAG.search(question):
        raise RowError("instructions in the question", f"{where}: the question still mentions {tag[0]}")
    if not question:
        raise RowError("empty problem", f"{where}: nothing but instructions")
    return question
