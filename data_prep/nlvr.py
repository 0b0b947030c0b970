"""NLVR (Suhr et al. 2017): human-written statements about images, true or false."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.data.images import inside, open_image
from gpg_vl.errors import ConfigurationError, DataError, RowError, unknown
from gpg_vl.prompting.prompts import letter
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Sample

from ._sources import json_lines

CHOICES = ("true", "false")
_SHARES = {"train": (0, 70), "validation": (70, 80), "test": (80, 100)}


@converter("nlvr", version="1")
def nlvr(source: str, *, split: str = "all", seed: int = 0) -> Iterator[Draft]:
    """Convert an NLVR folder, such as `dev` with `dev.json` and `images/`.

    Args:
        source: the folder; its name is NLVR's own split.
        split: train (70 %), validation (10 %), test (20 %) or all. Cut by statement: the images and the
            repeated judgements of one sentence stay on one side. A drawing may carry several statements, and
            is then perhaps on both: 3 of the 986 drawings of `dev` do.
        seed: another seed cuts the splits elsewhere.

    Where the file says no permutation, all images of an item that exist are taken, one row each.
    Source: A Corpus of Natural Language for Visual Reasoning, ACL 2017; CC-BY-4.0.
    """
    if split != "all" and split not in _SHARES:
        raise ConfigurationError(unknown("split of nlvr", split, ("all", *_SHARES)))
    if not source:
        raise ConfigurationError("nlvr needs --source: NLVR's own folder of one split, such as nlvr/dev")
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"no folder {source!r}: --source is NLVR's own folder of one split, on this machine")
    file = folder / f"{folder.name}.json"
    if not file.is_file():
        raise DataError(
            f"no {file.name} in {source!r}: --source is NLVR's own folder of one split, "
            "with SPLIT.json and images/DIRECTORY/SPLIT-IDENTIFIER-K.png"
        )
    for number, row in json_lines(file):
        where = f"{file.name} line {number}"
        if not _is_item(row):
            yield partial(_refuse, where)
        elif split == "all" or _in_split(row["sentence"], split, seed):
            for k in _permutations(row, folder):
                yield partial(_sample, row, k, folder, where)


def _is_item(row: dict[str, Any]) -> bool:
    texts = ("sentence", "label", "identifier", "directory")
    return all(isinstance(row.get(name), str) for name in texts) and row["label"] in CHOICES


def _refuse(where: str) -> Sample:
    message = f"{where} lacks sentence, label (true or false), identifier or directory"
    raise RowError("missing field", message)


def _in_split(sentence: str, split: str, seed: int) -> bool:
    text = f"{seed}:{_statement(sentence)}"
    bucket = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 100
    low, high = _SHARES[split]
    return low <= bucket < high


def _statement(sentence: str) -> str:
    """What makes two sentences one statement, for the splits and for clustered intervals."""
    return " ".join(sentence.casefold().split())


def _permutations(row: dict[str, Any], folder: Path) -> list[int]:
    """Those of an item that the file names, or else all whose images exist."""
    if "permutation" in row:
        return [row["permutation"]]
    return [k for k in range(6) if (folder / _image_name(row, k, folder)).is_file()]


def _image_name(row: dict[str, Any], k: int, folder: Path) -> str:
    return f"images/{row['directory']}/{folder.name}-{row['identifier']}-{k}.png"


def _sample(row: dict[str, Any], k: int, folder: Path, where: str) -> Sample:
    return Sample(
        id=f"nlvr-{folder.name}-{row['identifier']}-{k}",
        task="nlvr",
        question=f"{row['sentence'].strip().rstrip('.')}. Is this statement true or false?",
        choices=CHOICES,
        answer=letter(CHOICES.index(row["label"])),
        answer_type="choice",
        images=(open_image(inside(folder, _image_name(row, k, folder), where), where),),
        # The six images of an item permute one drawing, and a sentence has several items.
        meta={"cluster": _statement(row["sentence"]), "identifier": row["identifier"]},
    )
