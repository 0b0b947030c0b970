"""A part of a data set for validation: no image and no question of one side is on the other."""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.overlap import Fingerprint, fingerprints
from gpg_vl.data.prepared import SKIPPED, PreparedDataset
from gpg_vl.errors import DataError
from gpg_vl.registry import Draft
from gpg_vl.runtime.files import writing


@dataclass(frozen=True)
class Split:
    """What was written."""

    whole: Mapping[str, Any]
    """The manifest of all rows, with those that were skipped."""
    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    questions_apart: bool
    """Whether no question is on both sides; templated sets ask the same of every picture."""


def validation_folder(out: Path) -> Path:
    """Where the second part goes."""
    return out.with_name(f"{out.name}_validation")


def write_split(drafts: Iterable[Draft], out: Path, share: float, **given: Any) -> Split:
    """As `write_prepared`, whose options are `given`, in two folders: `out` and its `validation_folder`.

    About `share` of the rows, from 0 to 1, goes to validation. Raises DataError if either gets none.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            whole, train, held_out = (Path(folder) / name for name in ("whole", "train", "validation"))
            manifest = write_prepared(drafts, whole, **given)
            sides, apart = choose_sides(fingerprints([str(whole)]), share)
            if len(set(sides)) < 2:
                raise DataError(
                    f"a share of {share:g} for validation leaves one part of {len(sides)} rows empty: their "
                    "images or questions are too few to be parted"
                )
            data = PreparedDataset.open([str(whole)])
            options = {**(given.get("options") or {}), "validation": share}
            again = {**given, "options": options, "limit": None, "progress": None}
            of_train = write_prepared(_side(data, sides, False), train, **again)
            of_validation = write_prepared(_side(data, sides, True), held_out, **again)
            shutil.copyfile(whole / SKIPPED, train / SKIPPED)
            held_out.rename(validation_folder(out))
            train.rename(out)
    return Split(manifest, of_train, of_validation, apart)


def _side(data: PreparedDataset, sides: Sequence[bool], wanted: bool) -> Iterator[Draft]:
    return (partial(data.__getitem__, row) for row, side in enumerate(sides) if side == wanted)


def choose_sides(rows: Sequence[Fingerprint], share: float) -> tuple[list[bool], bool]:
    """Whether each row is for validation, by hash, and whether questions are apart as well as images.

    Rows that share an image or a question stay together, so the same rows are always on the same side. Where
    questions tie together more rows than validation is to have, as templates do, images alone decide.
    """
    groups = _groups([[*row.images, row.question] for row in rows])
    apart = max(Counter(groups).values()) <= max(share, 1 - share) * len(rows)
    if not apart:
        groups = _groups([row.images or (row.question,) for row in rows])
    return [_fraction(group) < share for group in groups], apart


def _groups(keys: Sequence[Sequence[str]]) -> list[str]:
    """For each row the least key of all that are tied to it."""
    above: dict[str, str] = {}

    def top(key: str) -> str:
        while (higher := above.setdefault(key, key)) != key:
            above[key] = above[higher]
            key = higher
        return key

    for first, *others in keys:
        for other in others:
            one, two = sorted((top(first), top(other)))
            above[two] = one
    return [top(row[0]) for row in keys]


def _fraction(key: str) -> float:
    """A number from 0 to 1 that a key always has, evenly spread whatever the keys are."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
