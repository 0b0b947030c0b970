"""RefCOCO, RefCOCO+ and RefCOCOg: a sentence, and the box of what it describes."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpg_vl.data.images import image_bytes, inside, open_image, upright_size
from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Box, Sample

from ._boxes import clipped, from_size, gold, numbers
from ._cells import refuse, text_cell, texts_cell
from ._refer import Referred, read_refer
from ._sources import dataset_rows

LAYOUT = (
    "REFER's folder with refs(unc).p and instances.json, or a folder of Parquet with the columns of "
    "lmms-lab/RefCOCO or jxu124/refcoco"
)
# jxu124's sets say validation for val, and test for testA.
_ALIASES = {"val": ("val", "validation"), "testA": ("testA", "test")}


@converter("refcoco", version="1")
def refcoco(source: str, *, split: str = "train", images: str = "", split_by: str = "") -> Iterator[Draft]:
    """Convert RefCOCO, RefCOCO+ or RefCOCOg; every sentence of an object is a row.

    Args:
        source: REFER's folder, such as refer/data/refcoco+, with refs(unc).p (or .json) and instances.json;
            or a hub id or a folder of Parquet in the layout of lmms-lab/RefCOCO or jxu124/refcoco.
        split: train, val, testA, testB or test, as far as the source has it.
        images: folder with COCO_train2014_*.jpg; empty takes REFER's own images/mscoco/images/train2014, or
            the images inside the Parquet.
        split_by: who made REFER's splits, such as google; empty takes unc, or umd for RefCOCOg.

    Pickles are read without running any code in them. The task is `refcoco/SPLIT`, with refcoco+ or refcocog
    where the source is one of these.
    """
    if images and not Path(images).is_dir():
        raise ConfigurationError(f"--images must be the folder with COCO_train2014_*.jpg, got {images!r}")
    name = _name(source)
    if source and (Path(source) / "instances.json").is_file():
        yield from _from_refer(Path(source), name, split, images, split_by)
    elif split_by:
        raise ConfigurationError(f"--split_by is for REFER's folder, and {source!r} has no instances.json")
    else:
        splits = _ALIASES.get(split, (split,))
        for number, row in enumerate(dataset_rows(source, LAYOUT, splits=splits)):
            yield from _from_row(row, number, name, split, images)


def _name(source: str) -> str:
    """refcoco, refcoco+ or refcocog: the last that is named in the source."""
    names = re.findall(r"refcoco(?:plus|\+|g(?![a-z]))?", source.lower())
    return names[-1].replace("plus", "+") if names else "refcoco"


def _from_refer(folder: Path, name: str, split: str, images: str, split_by: str) -> Iterator[Draft]:
    root = Path(images) if images else folder.parent / "images" / "mscoco" / "images" / "train2014"
    if not root.is_dir():
        raise ConfigurationError("refcoco needs --images: the folder with COCO_train2014_*.jpg")
    chosen, everything = read_refer(folder, split_by)
    seen = set()
    for referred in everything:
        seen.add(referred.split)
        if referred.split == split:
            for number in range(len(referred.sentences)):
                yield functools.partial(_referred_sample, referred, number, root, f"{name}-{chosen}", name)
    if split not in seen:
        raise ConfigurationError(f"refs({chosen}) has no split {split!r}; it has: {', '.join(sorted(seen))}")


def _referred_sample(referred: Referred, number: int, root: Path, prefix: str, name: str) -> Sample:
    id = f"{prefix}-{referred.split}-{referred.id}-{number}"
    return _sample(
        id=id,
        task=f"{name}/{referred.split}",
        sentence=referred.sentences[number],
        box=from_size(*_four(referred.box, id)),
        image=inside(root, referred.file, id),
        size=referred.size,
        meta={"category": referred.category, "ann_id": referred.ann_id, "cluster": _picture(referred.file)},
    )


def _four(box: Any, where: str) -> Box:
    x1, y1, x2, y2 = numbers(box, 4, where)
    return x1, y1, x2, y2


def _from_row(row: Mapping[str, Any], number: int, name: str, split: str, images: str) -> Iterator[Draft]:
    """Drafts of one row of a hub data set; the two layouts write boxes differently."""
    if {"captions", "image_path", "bbox"} <= row.keys():
        _check_split(row, split)
        if not images:
            raise ConfigurationError("this source holds no images: --images is COCO's folder train2014")
        column, sample = "captions", functools.partial(_path_sample, row, Path(images))
    elif {"answer", "image", "bbox"} <= row.keys():
        column, sample = "answer", functools.partial(_embedded_sample, row)
    else:
        raise DataError(f"unknown layout of RefCOCO, with the columns {', '.join(row)}; known: {LAYOUT}")
    try:
        sentences = texts_cell(row, column, f"{name}-{split}-{number}")
    except RowError as error:
        yield functools.partial(refuse, error)
        return
    for index, sentence in enumerate(sentences):
        yield functools.partial(sample, sentence, f"{name}-{split}-{number}-{index}", f"{name}/{split}")


def _check_split(row: Mapping[str, Any], split: str) -> None:
    """jxu124's `test` of RefCOCO is testA, and the rows say so."""
    own = row.get("split") or split
    if own != split and own not in _ALIASES.get(split, ()):
        raise ConfigurationError(f"the source's split {split!r} holds {own!r}; ask for --split {own}")


def _path_sample(row: Mapping[str, Any], root: Path, sentence: str, id: str, task: str) -> Sample:
    """jxu124/refcoco: corners, and images by path in a COCO folder."""
    file = Path(text_cell(row, "image_path", id)).name
    meta = {"ann_id": row.get("ann_id"), "category_id": row.get("category_id"), "cluster": _picture(file)}
    size = _size(row.get("raw_image_info") or "{}", id)
    return _sample(id, task, sentence, _four(row["bbox"], id), inside(root, file, id), size, meta)


def _size(info: Any, where: str) -> tuple[int, int] | None:
    """Width and height in COCO's record of an image; None if it says none. Raises RowError."""
    try:
        values = json.loads(info)
        return (values["width"], values["height"]) if values.keys() >= {"width", "height"} else None
    except (ValueError, TypeError, AttributeError) as error:
        message = f"{where}: raw_image_info is {info!r}, no JSON object"
        raise RowError("unreadable image info", message) from error


def _embedded_sample(row: Mapping[str, Any], sentence: str, id: str, task: str) -> Sample:
    """lmms-lab/RefCOCO: COCO's [x, y, width, height], and images inside."""
    data = image_bytes(row["image"], id)
    meta = {"question_id": row.get("question_id"), "cluster": _picture(str(row.get("file_name") or id))}
    return _sample(id, task, sentence, from_size(*_four(row["bbox"], id)), data, None, meta)


def _picture(file: str) -> str:
    """COCO's name of an image, without the annotation's number that some files carry."""
    found = re.match(r"COCO_\w*?\d{12}", file)
    return found[0] if found else Path(file).stem


def _sample(
    id: str,
    task: str,
    sentence: str,
    box: Box,
    image: Path | bytes,
    size: tuple[int, int] | None,
    meta: Mapping[str, Any],
) -> Sample:
    """`size` is what the source says of the image: boxes fit no resized copy."""
    opened = open_image(image, id)
    actual = upright_size(opened)
    if size is not None and actual != size:
        raise RowError("image of another size", f"{id}: the image is {actual}, and its box is for {size}")
    return Sample(
        id=id,
        task=task,
        question=question(sentence, id),
        answer=gold(clipped(box, actual)),
        answer_type="boxes",
        images=(opened,),
        meta={"sentence": sentence, **meta},
    )


def question(sentence: object, where: str) -> str:
    """The wording of InternVL's and VLM-R1's evaluations; the answer's form is the prompt's business."""
    if not isinstance(sentence, str) or not sentence.strip():
        raise RowError("empty text", f"{where}: the sentence is {sentence!r}")
    return (
        "Please provide the bounding box coordinate of the region this sentence describes: "
        f"{sentence.strip()}"
    )
