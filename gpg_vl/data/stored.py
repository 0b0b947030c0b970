"""The rows of prepared folders, read from their shards where these lie: nothing is copied to a cache."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.rows import ADDED, FEATURES
from gpg_vl.errors import DataError

_SCHEMA = FEATURES.arrow_schema.remove_metadata()
_TEXTS = [name for name in _SCHEMA.names if name != "images"]
_KEPT_BYTES = 64 << 20
"""Of decoded row groups: a small set stays whole, a large one as far as neighbouring rows need it."""
_OWN = ("_kept", "_kept_bytes", "_lock")
"""What a process does not share with others."""
_UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)


class StoredRows:
    """Rows by number. Threads may share it, and pickled it is a list of places."""

    def __init__(self, shards: Sequence[Path]) -> None:
        """Reads footers only. Raises DataError for a file that is no shard."""
        self._shards = list(shards)
        self._footers = [_footer(shard) for shard in self._shards]  # each read would parse it anew
        counts = [[f.row_group(group).num_rows for group in range(f.num_row_groups)] for f in self._footers]
        self._groups = [(shard, group) for shard, rows in enumerate(counts) for group in range(len(rows))]
        self._ends = np.cumsum([count for rows in counts for count in rows], dtype=np.int64)
        self._open()

    def _open(self) -> None:
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The columns of FEATURES. Raises DataError if the shard is damaged."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = int(np.searchsorted(self._ends, number, side="right"))
        table = self._group(place)
        return self._plain(table.slice(number - int(self._ends[place]) + table.num_rows, 1), place)[0]

    def texts(self) -> Iterator[dict[str, Any]]:
        """Every row without its images, which are not read."""
        for place in range(len(self._groups)):
            yield from self._plain(self._read(place, _TEXTS), place)

    def column(self, name: str) -> list[Any]:
        """One column of every row; no other is read."""
        parts = (self._plain(self._read(place, [name]), place) for place in range(len(self._groups)))
        return [row[name] for part in parts for row in part]

    def _group(self, place: int) -> pa.Table:
        with self._lock:
            if place not in self._kept:
                self._kept[place] = table = self._read(place, _SCHEMA.names)
                self._kept_bytes += table.nbytes
                while len(self._kept) > 1 and self._kept_bytes > _KEPT_BYTES:
                    self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(place)
            return self._kept[place]

    def _read(self, place: int, columns: Sequence[str]) -> pa.Table:
        shard, group = self._groups[place]
        try:
            # Threads would cost more than they save on groups this small.
            options = {"metadata": self._footers[shard], "page_checksum_verification": True}
            with pq.ParquetFile(self._shards[shard], **options) as file:
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
            for name in ADDED.keys() & set(columns) - set(table.column_names):
                table = table.append_column(name, [[ADDED[name]] * table.num_rows])
            return table.select(columns).cast(pa.schema([_SCHEMA.field(name) for name in columns]))
        except _UNREADABLE as error:
            raise _damaged(self._shards[shard], error) from error

    def _plain(self, table: pa.Table, place: int) -> list[dict[str, Any]]:
        try:
            rows: list[dict[str, Any]] = table.to_pylist()
        except _UNREADABLE as error:
            raise _damaged(self._shards[self._groups[place][0]], error) from error
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _footer(shard: Path) -> pq.FileMetaData:
    """Where a shard's row groups are. Raises DataError for a file of other columns, or that is no Parquet."""
    folder = str(shard.parent)
    try:
        with pq.ParquetFile(shard) as file:
            names, metadata = file.schema_arrow.names, file.metadata
            if not set(_SCHEMA.names) - ADDED.keys() <= set(names) <= set(_SCHEMA.names):
                raise DataError(
                    f"{folder!r} is not a prepared data set: {shard.name} has the columns "
                    f"{', '.join(names)}; expected {', '.join(_SCHEMA.names)}"
                )
            schema = pa.schema([_SCHEMA.field(name) for name in names])
            file.schema_arrow.empty_table().select(schema.names).cast(schema)
            return metadata
    except _UNREADABLE as error:
        raise DataError(f"{folder!r} is not a prepared data set: {shard.name}: {error}") from error


def _damaged(shard: Path, error: BaseException) -> DataError:
    return DataError(f"{str(shard)!r} is damaged: {error}; prepare the data set again")
