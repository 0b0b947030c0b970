"""The REFER toolkit's files: refs(unc).p or .json, and COCO's instances.json."""

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gpg_vl.errors import ConfigurationError, DataError, unknown

_REFS = re.compile(r"refs\((\w+)\)\.(?:p|json)")
_PREFERRED = ("unc", "umd")
"""Splits by image; google's share images between train and val."""


@dataclass(frozen=True)
class Referred:
    """An object with the sentences that people said of it."""

    id: str
    """The ref's number."""
    split: str
    sentences: tuple[str, ...]
    box: Any
    """As the file has it; [x, y, width, height] in pixels where it is right."""
    file: str
    """Name of the image file."""
    size: tuple[int, int]
    """Width and height of the image."""
    category: str
    ann_id: int


def read_refer(folder: Path, split_by: str) -> tuple[str, Iterator[Referred]]:
    """Who made the splits, and all objects. Raises DataError, and ConfigurationError for `split_by`."""
    files = {match[1]: file for file in sorted(folder.iterdir()) if (match := _REFS.fullmatch(file.name))}
    if not files:
        raise DataError(f"no refs(unc).p or refs(unc).json in {str(folder)!r}, beside its instances.json")
    chosen = split_by or next(name for name in (*_PREFERRED, *files) if name in files)
    if chosen not in files:
        raise ConfigurationError(unknown("split_by of refcoco", chosen, files))
    return chosen, _joined(_load(files[chosen]), _read_json(folder / "instances.json"))


def _joined(refs: Any, instances: Any) -> Iterator[Referred]:
    try:
        images = {image["id"]: image for image in instances["images"]}
        boxes = {ann["id"]: ann["bbox"] for ann in instances["annotations"]}
        categories = {category["id"]: category["name"] for category in instances["categories"]}
        for ref in refs:
            yield _referred(ref, images[ref["image_id"]], boxes[ref["ann_id"]], categories)
    except (KeyError, TypeError) as error:
        raise DataError(f"refs and instances.json do not belong together, or lack {error}") from error


def _referred(
    ref: Mapping[str, Any], image: Mapping[str, Any], box: Any, categories: Mapping[int, str]
) -> Referred:
    return Referred(
        id=str(ref["ref_id"]),
        split=ref["split"],
        sentences=tuple(sentence["sent"] for sentence in ref["sentences"]),
        box=box,
        file=image["file_name"],  # a ref's own `file_name` has the annotation's number in it
        size=(image["width"], image["height"]),
        category=categories[ref["category_id"]],
        ann_id=ref["ann_id"],
    )


def _load(file: Path) -> Any:
    if file.suffix == ".json":
        return _read_json(file)
    try:
        with file.open("rb") as stream:
            return _PlainUnpickler(stream, encoding="utf-8", errors="replace").load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError) as error:
        raise DataError(f"{file.name} is no pickle of plain lists and dicts: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, text and containers; a pickle that names a class or a function could run anything."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no refs file needs")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes(), object_hook=_without_outline)
    except FileNotFoundError as error:
        raise DataError(f"no {file.name} in {str(file.parent)!r}") from error
    except ValueError as error:
        raise DataError(f"{file.name} is no JSON: {error}") from error


def _without_outline(value: dict[str, Any]) -> dict[str, Any]:
    """Segmentations are nine tenths of instances.json, and nobody asks for them here."""
    value.pop("segmentation", None)
    return value
