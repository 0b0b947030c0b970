"""ReasonSeg (LISA, Lai et al. 2024): find what a sentence implies; polygons as masks, their bounds as box."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from gpg_vl.data.images import open_image, upright_size
from gpg_vl.errors import ConfigurationError, DataError, RowError, unknown
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Box, Sample

from ._boxes import clipped, gold, numbers
from ._cells import refuse

LAYOUT = "ReasonSeg's folder of one split, with NAME.jpg and NAME.json for each image"
Polygon = list[list[float]]


@converter("lisa", version="1")
def lisa(source: str, *, split: str = "", texts: Literal["all", "first"] = "all") -> Iterator[Draft]:
    """Convert a ReasonSeg folder to grounding: one box around all that the text asks for.

    Args:
        source: the folder of one split, with NAME.jpg and NAME.json for each image; or the one above it.
        split: train, val or test, where `source` is the folder above; empty where it is the split itself.
        texts: all makes a row of each text of an image; first is LISA's evaluation.

    `meta["polygons"]` and `meta["ignore_polygons"]` hold lists of [x, y] in pixels of the stored image, and
    `meta["size"]` its [width, height]. LISA draws larger polygons first, so a small `ignore` cuts a hole.
    """
    if texts not in ("all", "first"):
        raise ConfigurationError(unknown("texts of lisa", texts, ("all", "first")))
    if not source:
        raise ConfigurationError(f"lisa needs --source: {LAYOUT}")
    folder = Path(source) / split
    if not folder.is_dir():
        raise DataError(f"no folder {str(folder)!r}: --source is {LAYOUT}, on this machine")
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"no .json in {str(folder)!r}: --source is {LAYOUT}, or the folder above and --split")
    for file in files:
        yield from _drafts(file, texts == "first")


def _drafts(file: Path, first: bool) -> Iterator[Draft]:
    try:
        annotation = _read(file)
    except RowError as error:
        yield functools.partial(refuse, error)
        return
    sentences = annotation["text"]
    for number in range(1 if first else len(sentences)):
        yield functools.partial(_sample, file, annotation, number)


def _read(file: Path) -> dict[str, Any]:
    """An annotation; some of the published files are Windows-1252. Raises RowError."""
    data = file.read_bytes()
    try:
        annotation = json.loads(_decoded(data))
    except ValueError as error:
        raise RowError("unreadable annotation", f"{file.name}: {error}") from error
    if not isinstance(annotation, dict) or not _has(annotation, "text", str):
        raise RowError("unreadable annotation", f"{file.name} lacks `text`, a list of texts")
    if not _has(annotation, "shapes", dict):
        raise RowError("unreadable annotation", f"{file.name} lacks `shapes`, a list of polygons")
    return annotation


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _has(annotation: dict[str, Any], key: str, kind: type) -> bool:
    values = annotation.get(key)
    return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)


def _sample(file: Path, annotation: dict[str, Any], number: int) -> Sample:
    where = f"{file.parent.name}/{file.name}"
    image = open_image(file.with_suffix(".jpg"), where)
    size = upright_size(image)
    targets, ignored = _polygons(annotation["shapes"], where)
    return Sample(
        id=f"lisa-{file.parent.name}-{file.stem}-{number}",
        task="lisa",
        question=question(annotation["text"][number], where),
        answer=gold(clipped(_bounds(targets, where), size, slack=float("inf"))),
        answer_type="boxes",
        images=(image,),
        meta={
            "cluster": file.stem,
            "is_sentence": bool(annotation.get("is_sentence")),
            "polygons": targets,
            "ignore_polygons": ignored,
            "size": list(size),
        },
    )


def question(text: str, where: str) -> str:
    """The wording that Visual-RFT trained and evaluated with, without its tags."""
    if not text.strip():
        raise RowError("empty text", f"{where}: a text is empty")
    return f"Output the bounding box in the image corresponding to the instruction: {text.strip()}"


def _polygons(shapes: Sequence[Any], where: str) -> tuple[list[Polygon], list[Polygon]]:
    """The polygons to find, and those where it does not matter. `flag` marks no region: LISA skips it too."""
    targets: list[Polygon] = []
    ignored: list[Polygon] = []
    for shape in shapes:
        label = str(shape.get("label")).lower()
        points = shape.get("points") or []
        if not isinstance(points, list):
            raise RowError("unreadable annotation", f"{where}: `points` is {points!r}, no list")
        polygon = [list(numbers(point, 2, where)) for point in points]
        if label != "flag" and len(polygon) > 2:
            (ignored if "ignore" in label else targets).append(polygon)
    return targets, ignored


def _bounds(polygons: Sequence[Polygon], where: str) -> Box:
    points = [point for polygon in polygons for point in polygon]
    if not points:
        raise RowError("no target", f"{where}: no polygon to find")
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
