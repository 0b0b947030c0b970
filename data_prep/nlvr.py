"""NLVR (Suhr et al. 2017): human-written statements about images, true or false."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from gpg_vl.errors import ConfigurationError, DataError, unknown
from gpg_vl.prompts import letter
from gpg_vl.registry import converter
from gpg_vl.types import Sample

CHOICES = ("true", "false")
_SHARES = {"train": (0, 70), "validation": (70, 80), "test": (80, 100)}


@converter("nlvr", version="1")
def nlvr(source: str, *, split: str = "all", seed: int = 0) -> Iterator[Sample]:
    """Convert an NLVR folder, such as `dev` with `dev.json` and `images/`.

    Args:
        source: the folder; its name is NLVR's own split.
        split: train (70 %), validation (10 %), test (20 %) or all. Cut by statement: the images and the
            repeated judgements of one sentence stay on one side.
        seed: another seed cuts the splits elsewhere.

    Where the file says no permutation, all images of an item that exist are taken, one row each.
    Source: A Corpus of Natural Language for Visual Reasoning, ACL 2017; CC-BY-4.0.
    """
    if split != "all" and split not in _SHARES:
        raise ConfigurationError(unknown("split of nlvr", split, ("all", *_SHARES)))
    if not source:
        raise ConfigurationError("nlvr needs --source: NLVR's own folder of one split, such as nlvr/dev")
    folder = Path(source)
    file = folder / f"{folder.name}.json"
    if not file.is_file():
        raise DataError(
            f"no {file.name} in {source!r}: --source is NLVR's own folder of one split, "
            "with SPLIT.json and images/DIRECTORY/SPLIT-IDENTIFIER-K.png"
        )
    for number, line in enumerate(file.read_text().rstrip("\n").split("\n"), start=1):
        row = _parsed(line, number, file.name)
        if split == "all" or _in_split(row["sentence"], split, seed):
            yield from _samples(row, folder, number)


def _parsed(line: str, number: int, name: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{name} line {number} is no JSON: {error}") from error
    if not {"sentence", "label", "identifier", "directory"} <= row.keys() or row["label"] not in CHOICES:
        raise DataError(
            f"{name} line {number} lacks sentence, label (true or false), identifier or directory"
        )
    return row


def _in_split(sentence: str, split: str, seed: int) -> bool:
    text = f"{seed}:{_statement(sentence)}"
    bucket = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 100
    low, high = _SHARES[split]
    return low <= bucket < high


def _statement(sentence: str) -> str:
    """What makes two sentences one statement, for the splits and for clustered intervals."""
    return " ".join(sentence.casefold().split())


def _samples(row: dict[str, Any], folder: Path, line: int) -> Iterator[Sample]:
    name = f"{folder.name}-{row['identifier']}"
    permutations = [row["permutation"]] if "permutation" in row else range(6)
    for k in permutations:
        path = folder / "images" / row["directory"] / f"{name}-{k}.png"
        if not path.is_file():
            if "permutation" in row:
                raise DataError(f"{folder.name}.json line {line}: no image {path.name}")
            continue
        yield Sample(
            id=f"nlvr-{name}-{k}",
            task="nlvr",
            question=f"{row['sentence'].strip().rstrip('.')}. Is this statement true or false?",
            choices=CHOICES,
            answer=letter(CHOICES.index(row["label"])),
            answer_type="choice",
            images=(_opened(path, line),),
            # The six images of an item permute one drawing, and a sentence has several items.
            meta={"cluster": _statement(row["sentence"]), "identifier": row["identifier"]},
        )


def _opened(path: Path, line: int) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path.name} (line {line}) cannot be read: {error}") from error
    return image.convert("RGB")
