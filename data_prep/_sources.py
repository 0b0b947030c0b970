"""Reading published data sets: rows of a local copy or of the hub, lines of JSON, images."""

import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetBuilder, get_dataset_config_names, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from datasets.packaged_modules.parquet.parquet import Parquet
from httpx import HTTPError
from pyarrow.parquet import ParquetFile

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.runtime.hub import hub_reached

_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def dataset_rows(source: str, layout: str, *, splits: Sequence[str] = (), config: str = "") -> Iterator[Any]:
    """Stream the rows of a hub data set, or of a local folder or file of Parquet in its layout.

    Images come as `{"bytes": …, "path": …}`, not decoded. `splits` are tried in order; the first that exists
    is read, all files where none is given, and a single file whatever it is called. `config` is the hub's
    name of a part of the data set; a local copy without its README, or without parts, has none.
    `layout` says in words what a local copy looks like.
    Raises DataError if nothing is found, or the hub cannot be reached.
    """
    if not source:
        raise ConfigurationError(f"this converter needs --source: a hub id, or a local copy: {layout}")
    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise DataError(f"no file or folder {source!r}; --source is a hub id, or a local copy: {layout}")
    if not Path(source).exists():
        hub_reached()  # where it is not, the libraries look into their cache alone, and at once
    try:
        yield from _rows(source, splits, config)
    except ConnectionError as error:
        raise DataError(
            f"{source!r} is no file or folder here, and the hub cannot be reached: there is no network, or "
            f"HF_HUB_OFFLINE is set. --source may be a local copy: {layout}"
        ) from error
    except DatasetNotFoundError as error:
        raise DataError(
            f"{source!r} is no file or folder here, and the hub has no such data set, or one that you must "
            f"ask for access to and log in for (`hf auth login`). --source may be a local copy: {layout}"
        ) from error
    except (OSError, RuntimeError, ValueError, DatasetsError, HTTPError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source!r} cannot be read: {error}; a local copy is {layout}") from error


def _rows(source: str, splits: Sequence[str], config: str) -> Iterator[dict[str, Any]]:
    builder = _builder(source, config)
    if Path(source).exists() and isinstance(builder, Parquet):
        files = builder.config.data_files
        for split in _chosen(list(files), source, splits):
            for file in files[split]:
                yield from _parquet_rows(file)
    else:
        parts = builder.as_streaming_dataset()
        for split in _chosen(list(parts), source, splits):
            part = parts[split]
            # JSON has no column of images, nor any types before it is read.
            yield from part if part.features is None else part.decode(False)


def _chosen(existing: Sequence[str], source: str, splits: Sequence[str]) -> Sequence[str]:
    """The first of `splits` that exists, or all. Raises DataError if none does."""
    if not splits or Path(source).is_file():
        return existing
    for split in splits:
        if split in existing:
            return [split]
    raise DataError(
        f"{source!r} has no split {' or '.join(splits)}; it has: {', '.join(existing)}. "
        "A single file can be given instead of the folder"
    )


def _parquet_rows(file: str) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, read by pages: a row group may hold gigabytes of images, and `datasets` would
    read it as a whole."""
    with ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parquet:
        for batch in parquet.iter_batches(batch_size=32):
            yield from batch.to_pylist()


def _builder(source: str, config: str) -> DatasetBuilder:
    path = Path(source).resolve()
    if path.is_file():
        if path.suffix not in _FORMATS:
            raise DataError(f"{path.name!r} is no file of rows; known: {', '.join(_FORMATS)}")
        return load_dataset_builder(_FORMATS[path.suffix], data_files=[glob.escape(str(path))])
    if path.is_dir():
        parts = get_dataset_config_names(str(path))
        return load_dataset_builder(str(path), config if config in parts else None)
    return load_dataset_builder(source, config or None)


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a .jsonl file with their line numbers, from 1. Raises DataError for a broken line."""
    try:
        with file.open(encoding="utf-8-sig") as lines:  # -sig: editors on Windows put a mark in front
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _object(line, f"{file.name} line {number}")
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is not in UTF-8: {error}") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is no JSON object")
    return row
