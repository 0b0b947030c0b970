"""ViRFT (Liu et al. 2025): few-shot classification and object detection, as Visual-RFT publishes them."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from PIL import Image

from gpg_vl.data.gold_answers import tagged_answer
from gpg_vl.data.images import upright_size
from gpg_vl.errors import RowError
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import View, convert_box
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Sample

from ._cells import bare_question, image_cell, numbered_rows, text_cell

LAYOUT = "a folder or file of Parquet with image, problem, solution, such as laolao77/ViRFT_COCO"
COLUMNS = ("image", "problem", "solution")
_DETECTION = re.compile(r"(Detect all objects belonging to the category '(.+?)' in the image), and provide")


@converter("virft", version="1")
def virft(source: str, *, split: str = "train") -> Iterator[Draft]:
    """Convert a ViRFT set, of classification (answer: a class name) or detection (answer: boxes).

    Args:
        source: laolao77/ViRFT_CLS_flower_4_shot, laolao77/ViRFT_COCO_base65 or another of the family, or a
            local copy.
        split: the published sets have only train.

    The instructions about tags, coordinates and confidence leave the question: the prompt brings its own.
    Boxes are published on Qwen2-VL's grid of 0 to 1000 and stored in pixels. A row whose solution holds no
    box is skipped: no overlap can be measured. Source: Visual-RFT, arXiv 2503.01785.
    """
    for number, row in numbered_rows(source, LAYOUT, COLUMNS, splits=(split,)):
        yield partial(_sample, row, f"virft-{split}-{number}")


def _sample(row: dict[str, Any], id: str) -> Sample:
    image, cluster = image_cell(row["image"], id)
    problem = bare_question(text_cell(row, "problem", id), id)
    solution = tagged_answer(text_cell(row, "solution", id))
    if detection := _DETECTION.match(problem):
        return Sample(
            id=id,
            task="virft/detection",
            question=f"{detection[1]}.",
            answer=_pixels(solution, image, id),
            answer_type="boxes",
            images=(image,),
            meta={"cluster": cluster, "category": detection[2]},
        )
    if "Position" in solution:
        raise RowError("unknown wording", f"{id}: boxes are the solution of {problem!r}, no known wording")
    return Sample(
        id=id,
        task="virft/classification",
        question=problem,
        answer=solution,
        answer_type="label",
        images=(image,),
        meta={"cluster": cluster},
    )


def _pixels(solution: str, image: Image.Image, where: str) -> str:
    """`[{'Position': [x1, y1, x2, y2], 'Confidence': 1}, …]` on the grid as a JSON list in pixels."""
    boxes = read_boxes(solution)
    if not boxes and "Position" not in solution:
        raise RowError("no objects", f"{where}: the solution is {solution!r}")
    if len(boxes) != solution.count("Position"):
        raise RowError("malformed box", f"{where}: the solution is {solution!r}")
    size = upright_size(image)
    view = View(stored=size, resized=size)
    converted = [convert_box(box, "grid", "image", view) for box in boxes]
    return json.dumps([[round(edge, 2) for edge in box] for box in converted])
