"""Data as Python has it: rows, or a data set of the hub, written as the prepared folder that a run opens."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.registry import converters
from gpg_vl.scoring.gold import unreadable_gold

Rows = Iterable[Mapping[str, Any]]
"""Rows as `gpg-vl prepare jsonl` reads them, such as a list of dicts or a `datasets.Dataset`; images are
paths, bytes, or Pillow's."""
Data = str | Path | Iterable[Any]
"""A prepared folder, a file of rows, several of them, or the rows themselves."""
_ROWS = "jsonl"
"""The converter of a user's own rows."""
_FILES = (".jsonl", ".json", ".parquet")
_NAME = 12
"""Hexadecimal digits of the content's hash in a folder's name."""


def prepare(rows: str | Path | Rows, out: str | Path, **options: Any) -> Path:
    """Write rows, or a file of them, as a prepared data set; returns its folder.

    options: those of `gpg-vl prepare jsonl`, such as answer_type="number". Rows that cannot be used are
    listed in its skipped.jsonl; a look at the sheet of `gpg-vl data show` is worth its second. Raises
    DataError if the folder exists, or no row can be used.
    """
    converter, of_a_file = converters.get(_ROWS), isinstance(rows, str | Path)
    write_prepared(
        converter.function(str(rows) if of_a_file else rows, **options),
        Path(out),
        source=str(rows) if of_a_file else "rows",
        converter=converter.name,
        version=converter.version,
        options=options,
        unreadable_gold=unreadable_gold,
    )
    return Path(out)


def read(data: str | Path) -> PreparedDataset:
    """The samples of a prepared folder, by index; images are decoded when a sample is read."""
    return PreparedDataset.open([str(data)])


def folders(data: Data, store: Path) -> list[str]:
    """Prepared folders that hold `data`; rows are written into `store`, under a name that says what they are.

    The same rows are written once, so that a run goes on with the folder it had; each of a launch's processes
    writes them, and the first to be done leaves its folder to all.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        return [_written(path, store)] if path.suffix in _FILES and path.is_file() else [str(data)]
    listed = list(data)
    if all(isinstance(one, str | Path) for one in listed):
        return [folder for one in listed for folder in folders(one, store)]
    return [_written(listed, store)]


def _written(rows: Path | Rows, store: Path) -> str:
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=store) as own:
        folder = prepare(rows, Path(own) / "rows")
        name = rows.stem if isinstance(rows, Path) else "rows"
        target = store / f"{name}-{read_manifest(folder)['sha256'][:_NAME]}"
        with contextlib.suppress(OSError):  # it is there already
            os.rename(folder, target)
    return str(target)
