"""Parquet shards of bounded size, written a few rows at a time."""

import contextlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.prepared import HASHES
from gpg_vl.data.rows import FEATURES, Row

_SHARD_ROWS = 1000
_SHARD_BYTES = 256 << 20
_GROUP_ROWS = 16
_GROUP_BYTES = 2 << 20
"""Of images in a row group. A group is read whole for one of its rows, and training draws them at random."""
_HASHES = pa.schema({"id": pa.string(), "question": pa.string(), "images": pa.list_(pa.string())})


class ShardWriter:
    """Writes `data-*.parquet` and, beside them, the rows' hashes. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes = _writer(folder / HASHES, _HASHES)
        self._shard: pq.ParquetWriter | None = None
        self._shards = self._shard_rows = self._shard_bytes = 0
        self._group: list[Row] = []
        self._group_bytes = 0

    def add(self, row: Row) -> None:
        """Append one row."""
        self._group.append(row)
        self._group_bytes += row.size
        self._shard_rows += 1
        self._shard_bytes += row.size
        if self._shard_rows >= _SHARD_ROWS or self._shard_bytes >= _SHARD_BYTES:
            self._end_shard()
        elif len(self._group) >= _GROUP_ROWS or self._group_bytes >= _GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._shard is None:
            path = self._folder / f"data-{self._shards:05d}.parquet"
            self._shard = _writer(path, FEATURES.arrow_schema)
        rows = [row.columns for row in self._group]
        self._shard.write_table(pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema))
        hashes = [
            {"id": row.columns["id"], "question": row.question_hash, "images": row.image_hashes}
            for row in self._group
        ]
        self._hashes.write_table(pa.Table.from_pylist(hashes, schema=_HASHES))
        self._group, self._group_bytes = [], 0

    def _end_shard(self) -> None:
        if self._group:
            self._write_group()
        if self._shard is not None:
            self._shard.close()
            self._shards += 1
        self._shard, self._shard_rows, self._shard_bytes = None, 0, 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end_shard()
            self._hashes.close()
            return
        for writer in filter(None, (self._shard, self._hashes)):  # what failed must not fail again
            with contextlib.suppress(OSError, pa.ArrowException):
                writer.close()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, write_page_checksum=True)
