"""Reading published data sets: rows of a local copy or of the hub, lines of JSON, images."""

import glob
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetBuilder, IterableDataset, get_dataset_config_names, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from datasets.packaged_modules.parquet.parquet import Parquet
from httpx import HTTPError
from PIL import Image
from pyarrow.dataset import ParquetFragmentScanOptions

from gpg_vl.errors import ConfigurationError, DataError, RowError

_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# A row group may hold gigabytes of images: read it in small pieces, never as a whole.
_BATCH_ROWS = 32
_SCAN = ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True, buffer_size=1 << 20)


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
    try:
        for part in _parts(source, splits, config):
            # JSON has no column of images, nor any types before it is read.
            yield from part if part.features is None else part.decode(False)
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


def _parts(source: str, splits: Sequence[str], config: str) -> list[IterableDataset]:
    """The first of `splits` that exists, or all. Raises DataError if none does."""
    builder = _builder(source, config)
    parts = builder.as_streaming_dataset()
    if not splits or Path(source).is_file():
        return list(parts.values())
    for split in splits:
        if split in parts:
            return [parts[split]]
    raise DataError(
        f"{source!r} has no split {' or '.join(splits)}; it has: {', '.join(parts)}. "
        "A single file can be given instead of the folder"
    )


def _builder(source: str, config: str) -> DatasetBuilder:
    path = Path(source).resolve()
    if path.is_file():
        if path.suffix not in _FORMATS:
            raise DataError(f"{path.name!r} is no file of rows; known: {', '.join(_FORMATS)}")
        builder = load_dataset_builder(_FORMATS[path.suffix], data_files=[glob.escape(str(path))])
    elif path.is_dir():
        parts = get_dataset_config_names(str(path))
        builder = load_dataset_builder(str(path), config if config in parts else None)
    else:
        builder = load_dataset_builder(source, config or None)
    if isinstance(builder, Parquet):
        builder.config.batch_size = _BATCH_ROWS
        if path.exists():
            builder.config.fragment_scan_options = _SCAN
    return builder


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a .jsonl file with their line numbers, from 1. Raises DataError for a broken line."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{file.name} line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{file.name} line {number} is no JSON object")
            yield number, row


def open_image(source: Path | bytes, where: str) -> Image.Image:
    """An image whose header is read and whose pixels are not; the writer decodes and checks them.

    `where` names the row in the message. Raises RowError if there is no file or no image in it.
    """
    try:
        # Bytes, since an image opened by its path would keep the file open until it is collected.
        return Image.open(io.BytesIO(source.read_bytes() if isinstance(source, Path) else source))
    except FileNotFoundError as error:
        raise RowError("missing image", f"{where}: no file {Path(str(source)).name!r}") from error
    except Image.DecompressionBombError as error:
        raise RowError("decompression bomb", f"{where}: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise RowError("unreadable image", f"{where}: {error}") from error


def inside(root: Path, relative: str, where: str) -> Path:
    """The file `relative` below `root`. Raises RowError if it leads out of the folder."""
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise RowError("path outside the folder", f"{where}: {relative!r} leads out of {root.name!r}")
    return path
