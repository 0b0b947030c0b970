"""Prepared data sets: Parquet shards with images inside, and a manifest."""

import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from PIL import Image as PILImage

from gpg_vl.data.rows import FEATURES
from gpg_vl.errors import DataError
from gpg_vl.types import Sample

MANIFEST = "manifest.json"
SHARDS = "data-*.parquet"
HASHES = "hashes.parquet"
"""Of each row's question and images; see `overlap.py`."""
SKIPPED = "skipped.jsonl"
"""The rows of the source that could not be used, and why."""


@dataclass(frozen=True)
class PreparedDataset:
    """Rows of one or several prepared folders; decodes a row's images when it is read."""

    rows: Any
    """A `datasets.Dataset` with FEATURES."""
    folders: tuple[str, ...]
    left_out: int = 0
    """Rows whose prompt is too long."""
    numbers: Sequence[int] | None = None
    """Each row's number in the folders; None where all are there."""

    @classmethod
    def open(cls, folders: Sequence[str]) -> "PreparedDataset":
        """Open and join prepared folders. Raises DataError if one is missing, foreign or empty."""
        joined = concatenate_datasets([_open_folder(Path(folder)) for folder in folders])
        return cls(joined, tuple(folders))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError naming the row if an image cannot be read."""
        return self._sample(index)

    def peek(self, index: int) -> Sample:
        """The row with images that know their size but are not decoded."""
        return self._sample(index, headers_only=True)

    def _sample(self, index: int, *, headers_only: bool = False) -> Sample:
        row = self.rows[index]
        return _sample(
            row, tuple(self._image(row, k, index, headers_only) for k in range(len(row["images"])))
        )

    def without_images(self) -> Iterator[Sample]:
        """Every row's texts; no image is read."""
        for row in self.rows.remove_columns("images"):
            yield _sample(row, ())

    def _image(self, row: dict[str, Any], k: int, index: int, header_only: bool) -> PILImage.Image:
        try:
            image = PILImage.open(io.BytesIO(row["images"][k]["bytes"]))
            if not header_only:
                image.load()
        except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
            number = self.numbers[index] if self.numbers else index
            raise DataError(
                f"row {number} (id {row['id']!r}) of {', '.join(self.folders)}: image {k} "
                f"cannot be read: {error}"
            ) from error
        return image

    def head(self, count: int) -> "PreparedDataset":
        """The first `count` rows; all if `count` is 0."""
        if not count or count >= len(self):
            return self
        numbers = self.numbers[:count] if self.numbers else None
        return PreparedDataset(self.rows.select(range(count)), self.folders, self.left_out, numbers)

    def lengths(self, length: Callable[[Sample], int]) -> list[int]:
        """`length` of every row; it gets samples whose images know their size but are not decoded."""
        return [length(self.peek(i)) for i in range(len(self))]

    def within(self, max_tokens: int, length: Callable[[Sample], int]) -> "PreparedDataset":
        """Only rows whose prompt has at most `max_tokens` tokens; the others are counted, never cut.

        Raises DataError if none is left; `length` as in `lengths`.
        """
        kept = [i for i, tokens in enumerate(self.lengths(length)) if tokens <= max_tokens]
        if not kept:
            raise DataError(f"every prompt of {', '.join(self.folders)} is longer than {max_tokens} tokens")
        numbers = [self.numbers[i] for i in kept] if self.numbers else kept
        return PreparedDataset(self.rows.select(kept), self.folders, len(self) - len(kept), numbers)


def _sample(row: Mapping[str, Any], images: tuple[PILImage.Image, ...]) -> Sample:
    return Sample(
        id=row["id"],
        task=row["task"],
        question=row["question"],
        answer=row["answer"],
        answer_type=row["answer_type"],
        choices=tuple(row["choices"]),
        images=images,
        meta=json.loads(row["meta"]),
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared set. Raises DataError if the folder is none."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise _not_prepared(folder) from error


def _not_prepared(folder: Path) -> DataError:
    return DataError(f"{str(folder)!r} is not a prepared data set; make one with `gpg-vl prepare`")


def _open_folder(folder: Path) -> Any:
    shards = sorted(str(shard) for shard in folder.glob(SHARDS))
    if not shards or not (folder / MANIFEST).is_file():
        raise _not_prepared(folder)
    try:
        rows = load_dataset("parquet", data_files=shards, split="train", features=FEATURES)
    except DatasetGenerationError as error:
        raise DataError(f"{str(folder)!r} is not a prepared data set: {error.__cause__ or error}") from error
    if not len(rows):
        raise DataError(f"{str(folder)!r} is empty")
    return rows


class Sampler:
    """An endless, seeded order over rows: a new permutation each epoch, or always the rows' own order.

    `consumed` is its whole state: setting it continues exactly there.
    """

    def __init__(self, size: int, seed: int, *, shuffle: bool = True) -> None:
        self.size, self.seed, self.shuffle, self.consumed = size, seed, shuffle, 0
        self._epoch = -1
        self._order: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(0, dtype=np.int64)

    def draw(self, count: int) -> list[int]:
        """The next `count` row indices."""
        drawn = [self._at(self.consumed + k) for k in range(count)]
        self.consumed += count
        return drawn

    def upcoming(self) -> Iterator[int]:
        """The rows from the next one on, without drawing them."""
        return map(self._at, itertools.count(self.consumed))

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, self.size)
        if not self.shuffle:
            return offset
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._epoch = epoch
        return int(self._order[offset])
