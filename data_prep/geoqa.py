"""GEOQA as R1-V publishes it: geometry problems with a diagram and a number or an expression as answer."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.data.gold_answers import tagged_answer
from gpg_vl.data.images import inside, open_image
from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.registry import Draft, converter
from gpg_vl.types import AnswerType, Sample

from ._cells import bare_question, image_cell, numbered_rows, text_cell
from ._sources import json_lines

TEST_FILE = "geoqa_test_prompts.jsonl"
LAYOUT = (
    "a folder or file of Parquet with image, problem, solution (GEOQA_R1V_Train_8K), "
    f"or {TEST_FILE} with image_path, question, ground_truth beside its images"
)
COLUMNS = ("image", "problem", "solution")

_DECIMAL = r"\d+(?:\.\d+)?"
_FRACTION = rf"\\frac\{{{_DECIMAL}\}}\{{{_DECIMAL}\}}"
_NUMBER = re.compile(rf"-?(?:{_FRACTION}|{_DECIMAL}(?:/{_DECIMAL})?)\s*(?:°|degrees?)?")
_POWER = r"(?:[²³]|\^\{?[23]\}?\^?)"
_UNIT = re.compile(rf"(?<=[\d}})π])\s*(?:[cdkm]?m{_POWER}?|[\u4e00-\u9fff]+)$")
_ROOT = re.compile(r"√\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+|[a-z]))")
_SYMBOLS = str.maketrans({"π": r"\pi ", "°": r"^\circ ", "−": "-"})


@converter("geoqa", version="1")
def geoqa(source: str, *, images: str = "") -> Iterator[Draft]:
    """Convert GEOQA: the training Parquet, or the test questions with their image folder.

    Args:
        source: leonardPKU/GEOQA_R1V_Train_8K or a local copy; for the test, geoqa_test_prompts.jsonl or the
            folder that holds it.
        images: the folder that the test's image paths (./Geo170K/images/test/0.png) start from; empty means
            the folder of the file.

    Answers lose their unit, which the questions never state (degrees stay); expressions become LaTeX, because
    symbolic graders read 5√{3} as 5. `meta.published_answer` is the original. Answer type: number, or math
    for an expression. Source: R1-V; GeoQA, arXiv 2105.14517.
    """
    file = _test_file(source)
    if file is None:
        for number, row in numbered_rows(source, LAYOUT, COLUMNS):
            yield partial(_train_sample, row, number)
        return
    folder = Path(images) if images else file.parent
    if not folder.is_dir():
        raise ConfigurationError(f"--images must be the folder that image_path starts from, got {images!r}")
    for number, row in json_lines(file):
        yield partial(_test_sample, row, number, file.name, folder)


def _test_file(source: str) -> Path | None:
    """The file of test questions that `source` is or holds; None where it is Parquet or a hub id."""
    path = Path(source)
    if path.suffix == ".jsonl":
        if not path.is_file():
            raise DataError(f"no file {source!r}; --source is a hub id, or {LAYOUT}")
        return path
    return path / TEST_FILE if source and (path / TEST_FILE).is_file() else None


def _train_sample(row: dict[str, Any], number: int) -> Sample:
    where = f"row {number}"
    image, cluster = image_cell(row["image"], where)
    published = tagged_answer(text_cell(row, "solution", where))
    answer, kind = _gold(published, where)
    return Sample(
        id=f"geoqa-train-{number}",
        task="geoqa",
        question=bare_question(text_cell(row, "problem", where), where),
        answer=answer,
        answer_type=kind,
        images=(image,),
        meta={"cluster": cluster, "published_answer": published},
    )


def _test_sample(row: dict[str, Any], number: int, name: str, folder: Path) -> Sample:
    where = f"{name} line {number}"
    path = text_cell(row, "image_path", where)
    published = text_cell(row, "ground_truth", where)
    answer, kind = _gold(published, where)
    return Sample(
        id=f"geoqa-test-{number}",
        task="geoqa",
        question=text_cell(row, "question", where),
        answer=answer,
        answer_type=kind,
        images=(open_image(inside(folder, path, where), where),),
        meta={"cluster": path, "published_answer": published},
    )


def _gold(published: str, where: str) -> tuple[str, AnswerType]:
    """The answer without its unit: a number, or LaTeX for an expression to be compared symbolically."""
    answer = _UNIT.sub("", published)
    if _NUMBER.fullmatch(answer):
        return answer, "number"
    rooted = _ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2] or root[3]}}}", answer)
    if "√" in rooted:
        raise RowError("unreadable answer", f"{where}: no LaTeX for {published!r}")
    return rooted.translate(_SYMBOLS).strip(), "math"
