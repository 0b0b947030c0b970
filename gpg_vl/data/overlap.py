"""What prepared data sets share: images, questions, and whole items, by hash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.images import pixel_hash
from gpg_vl.data.prepared import HASHES, PreparedDataset
from gpg_vl.data.rows import question_hash
from gpg_vl.errors import DataError

KINDS = {"items": "the same images and question", "images": "an image", "questions": "the same question"}


@dataclass(frozen=True)
class Fingerprint:
    """The hashes of one row."""

    id: str
    question: str
    images: tuple[str, ...]

    def keys(self, kind: str) -> tuple[object, ...]:
        """What another row must have in common with this one to share `kind`; a name of KINDS."""
        if kind == "images":
            return self.images
        return (self.question,) if kind == "questions" else ((self.question, self.images),)


@dataclass(frozen=True)
class Shared:
    """Rows of two sets that share one kind of thing."""

    first: int
    """Rows of the first set that the second has something of."""
    second: int
    pairs: tuple[tuple[str, str], ...]
    """Ids: for each such row of the first set, one of the second."""


@dataclass(frozen=True)
class Overlap:
    """Two sets, and what they share."""

    names: tuple[str, str]
    rows: tuple[int, int]
    shared: Mapping[str, Shared]
    """By the names of KINDS."""


def find_overlap(first: Sequence[str], second: Sequence[str]) -> Overlap:
    """Compare prepared folders: images by pixels, questions without regard to case, spacing and the order of
    choices. Raises DataError for a folder that is no prepared data set."""
    one, other = fingerprints(first), fingerprints(second)
    shared = {kind: _shared(one, other, kind) for kind in KINDS}
    return Overlap((", ".join(first), ", ".join(second)), (len(one), len(other)), shared)


def overlap_warning(train: Sequence[str], validation: Sequence[str]) -> str | None:
    """A line about rows of `validation` that are trained on; None if there are none.

    Equal questions alone are no overlap: synthetic and templated sets ask the same of every picture.
    """
    overlap = find_overlap(train, validation)
    (_, name), (_, rows) = overlap.names, overlap.rows
    items, images = overlap.shared["items"], overlap.shared["images"]
    if items.second:
        return (
            f"warning: {items.second:,} of the {rows:,} rows of {name} are in the training data too, such as "
            f"{items.pairs[0][1]!r}: their accuracy says nothing about new questions"
        )
    if images.second:
        return (
            f"note: {images.second:,} of the {rows:,} rows of {name} show images of the training data, under "
            "other questions"
        )
    return None


def overlap_report(overlap: Overlap, examples: int) -> str:
    """The overlap as text: counts in both directions, and up to `examples` pairs of ids of each kind."""
    (first, second), (rows, others) = overlap.names, overlap.rows
    lines = [f"A: {first}, {rows:,} rows", f"B: {second}, {others:,} rows"]
    for kind, words in KINDS.items():
        shared = overlap.shared[kind]
        lines.append(
            f"{kind + ':':<10} {shared.first:,} rows of A ({shared.first / rows:.1%}) share {words} with B; "
            f"{shared.second:,} rows of B ({shared.second / others:.1%}) with A"
        )
        lines += [f"  A {one}  =  B {other}" for one, other in shared.pairs[:examples]]
    return "\n".join(lines)


def fingerprints(folders: Sequence[str]) -> list[Fingerprint]:
    """The hashes that `prepare` wrote, or new ones of a set that has none.

    Raises DataError for a folder that is no prepared data set.
    """
    return [one for folder in folders for one in _written(Path(folder)) or _computed(folder)]


def _written(folder: Path) -> list[Fingerprint]:
    if not (folder / HASHES).is_file():
        return []
    try:
        with pq.ParquetFile(folder / HASHES, page_checksum_verification=True) as file:
            rows = file.read().to_pylist()
        return [Fingerprint(row["id"], row["question"], tuple(row["images"])) for row in rows]
    except (OSError, LookupError, TypeError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(
            f"{str(folder / HASHES)!r} is damaged: {error}; without the file, hashes are computed anew"
        ) from error


def _computed(folder: str) -> list[Fingerprint]:
    data = PreparedDataset.open([folder])
    samples = (data[index] for index in range(len(data)))
    return [
        Fingerprint(
            sample.id,
            question_hash(sample.question, sample.choices),
            tuple(pixel_hash(image) for image in sample.images),
        )
        for sample in samples
    ]


def _shared(one: Sequence[Fingerprint], other: Sequence[Fingerprint], kind: str) -> Shared:
    found = {key: row.id for row in reversed(other) for key in row.keys(kind)}
    known = {key for row in one for key in row.keys(kind)}
    pairs = [
        (row.id, next(found[key] for key in row.keys(kind) if key in found))
        for row in one
        if any(key in found for key in row.keys(kind))
    ]
    second = sum(any(key in known for key in row.keys(kind)) for row in other)
    return Shared(len(pairs), second, tuple(pairs))
