"""Prepared data sets: Parquet shards with images inside, and a manifest."""

import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from gpg_vl.data.curriculum import Arrange, Order
from gpg_vl.data.manifest import MANIFEST, not_prepared, read_manifest
from gpg_vl.data.stored import StoredRows
from gpg_vl.errors import DataError
from gpg_vl.types import Sample

SHARDS = "data-*.parquet"
HASHES = "hashes.parquet"
"""Of each row's question and images; see `overlap.py`."""
SKIPPED = "skipped.jsonl"
"""The rows of the source that could not be used, and why."""


@dataclass(frozen=True)
class PreparedDataset:
    """Rows of one or several prepared folders; decodes a row's images when it is read."""

    rows: StoredRows
    """All that are in the folders."""
    folders: tuple[str, ...]
    left_out: int = 0
    """Rows whose prompt is too long, or cannot be made."""
    unusable: tuple[str, ...] = ()
    """Why those cannot be made whose prompt is not too long."""
    longest: int = 0
    """Tokens of the longest prompt that is kept, where lengths were looked at."""
    numbers: Sequence[int] | None = None
    """Each row's number in the folders; None where all are there."""

    @classmethod
    def open(cls, folders: Sequence[str]) -> "PreparedDataset":
        """Open and join prepared folders. Raises DataError for one that is missing, foreign or incomplete."""
        shards = [shard for folder in folders for shard in _shards(Path(folder))]
        return cls(StoredRows(shards), tuple(folders))

    def __len__(self) -> int:
        return len(self.rows) if self.numbers is None else len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError naming the row if an image cannot be read."""
        return self._sample(index)

    def peek(self, index: int) -> Sample:
        """The row with images that know their size but are not decoded."""
        return self._sample(index, headers_only=True)

    def column(self, name: str) -> list[Any]:
        """One column of every row, by its name in FEATURES; no image is read for another."""
        values = self.rows.column(name)
        return values if self.numbers is None else [values[number] for number in self.numbers]

    def without_images(self) -> Iterator[Sample]:
        """Every row's texts; no image is read."""
        kept = None if self.numbers is None else set(self.numbers)
        for number, row in enumerate(self.rows.texts()):
            if kept is None or number in kept:
                yield self._as_sample(row, (), number)

    @property
    def row_numbers(self) -> Sequence[int]:
        """Each row's number in the folders."""
        return range(len(self.rows)) if self.numbers is None else self.numbers

    def _number(self, index: int) -> int:
        return index if self.numbers is None else self.numbers[index]

    def _sample(self, index: int, *, headers_only: bool = False) -> Sample:
        number = self._number(index)
        row = self.rows[number]
        images = [self._image(row, k, number, headers_only) for k in range(len(row["images"] or ()))]
        return self._as_sample(row, tuple(images), number)

    def _image(self, row: dict[str, Any], k: int, number: int, header_only: bool) -> PILImage.Image:
        try:
            image = PILImage.open(io.BytesIO(row["images"][k]["bytes"]))
            if not header_only:
                image.load()
        except (OSError, SyntaxError, TypeError, ValueError, PILImage.DecompressionBombError) as error:
            raise DataError(f"{self._name(row, number)}: image {k} cannot be read: {error}") from error
        return image

    def _as_sample(self, row: Mapping[str, Any], images: tuple[PILImage.Image, ...], number: int) -> Sample:
        try:
            return _sample(row, images)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self._name(row, number)} cannot be read: {error}") from error

    def _name(self, row: Mapping[str, Any], number: int) -> str:
        return f"row {number} (id {row['id']!r}) of {', '.join(self.folders)}"

    def head(self, count: int) -> "PreparedDataset":
        """The first `count` rows; all if `count` is 0."""
        if not count or count >= len(self):
            return self
        numbers = range(count) if self.numbers is None else self.numbers[:count]
        return replace(self, numbers=numbers)

    def choose(self, indices: Sequence[int]) -> "PreparedDataset":
        """Only these rows, in this order."""
        return replace(self, numbers=[self._number(index) for index in indices])

    def lengths(self, length: Callable[[Sample], int]) -> list[int]:
        """`length` of every row; it gets samples whose images know their size but are not decoded.

        Raises DataError for a row that has none.
        """
        return [length(self.peek(i)) for i in range(len(self))]

    def lengths_or_errors(self, length: Callable[[Sample], int]) -> list[int | DataError]:
        """As `lengths`, with the error in the place of a row that has no length."""

        def measured(index: int) -> int | DataError:
            try:
                return length(self.peek(index))
            except DataError as error:
                return error

        return [measured(index) for index in range(len(self))]

    def within(self, max_tokens: int, length: Callable[[Sample], int]) -> "PreparedDataset":
        """Only rows of at most `max_tokens` tokens; the others are counted, never cut.

        So are rows that have no length. Raises DataError if none is left; `length` as in `lengths`.
        """
        found = self.lengths_or_errors(length)
        kept = {i: n for i, n in enumerate(found) if isinstance(n, int) and n <= max_tokens}
        unusable = tuple(str(error) for error in found if isinstance(error, DataError))
        if not kept:
            long = f"{len(found) - len(unusable)} of {len(found)} prompts are longer than {max_tokens} tokens"
            why = f", the others cannot be used, such as: {unusable[0]}" if unusable else ""
            raise DataError(f"no row of {', '.join(self.folders)} is left: {long}{why}")
        return replace(
            self,
            numbers=[self._number(i) for i in kept],
            left_out=self.left_out + len(self) - len(kept),
            unusable=self.unusable + unusable,
            longest=max(kept.values()),
        )

    def left_out_note(self) -> str:
        """What `within` has left out, for the user; empty if nothing."""
        if not self.left_out:
            return ""
        long = self.left_out - len(self.unusable)
        parts = [f"{long} with prompts longer than data.max_prompt_tokens"] if long else []
        parts += [f"{len(self.unusable)} unusable, such as: {self.unusable[0]}"] if self.unusable else []
        rows = f"{self.left_out} of the {len(self) + self.left_out} rows of {', '.join(self.folders)}"
        return f"warning: {rows} are left out: {'; '.join(parts)}"


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
        reasoning=row["reasoning"],
    )


def _shards(folder: Path) -> list[Path]:
    """The shards of a folder in order, which hold as many rows as its manifest says."""
    shards = sorted(folder.glob(SHARDS))
    if not shards:
        raise not_prepared(folder)
    promised, found = read_manifest(folder).get("rows"), len(StoredRows(shards))
    if not found:
        raise DataError(f"{str(folder)!r} is empty")
    if promised is not None and found != promised:
        raise DataError(
            f"{str(folder)!r} holds {found:,} rows, its {MANIFEST} says {promised:,}: a shard is missing or "
            "of another set; prepare it again"
        )
    return shards


class Sampler:
    """An endless, seeded order over rows: a new permutation each epoch, or always the rows' own order.

    Either is what `arrange` starts from, if it is given. `consumed` is its whole state: setting it continues
    exactly there.
    """

    def __init__(self, size: int, seed: int, *, shuffle: bool = True, arrange: Arrange | None = None) -> None:
        self.size, self.seed, self.shuffle, self.consumed = size, seed, shuffle, 0
        self._arrange = arrange
        self._epoch = -1
        self._order: Order = np.zeros(0, dtype=np.int64)

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
        if not self.shuffle and self._arrange is None:
            return offset
        if epoch != self._epoch:
            self._order, self._epoch = self._ordered(epoch), epoch
        return int(self._order[offset])

    def _ordered(self, epoch: int) -> Order:
        """All rows, by the seed and the epoch alone."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.size) if self.shuffle else np.arange(self.size)
        return order if self._arrange is None else self._arrange(order, random)
