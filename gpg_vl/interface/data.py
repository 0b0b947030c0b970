"""Data as Python has it: rows, or a data set of the hub, written as the prepared folder that a run opens."""

import contextlib
import inspect
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gpg_vl.checks import known_options, share_in_range
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.data.split import validation_folder, write_split
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from gpg_vl.scoring.gold import unreadable_gold

Rows = Iterable[Mapping[str, Any]]
"""Rows as `gpg-vl prepare jsonl` reads them, such as a list of dicts, a `datasets.Dataset` or a table of
pandas; images are paths, bytes, or Pillow's."""
Data = str | Path | Iterable[Any]
"""A prepared folder, a file of rows, several of them, or the rows themselves."""
RUNS, STORE = "runs", "data"
"""Where runs go that nobody names, and beside them the rows that were written."""
_ROWS = "jsonl"
"""The converter of a user's own rows."""
_FILES = (".jsonl", ".json", ".parquet")
_NAME = 12
"""Hexadecimal digits of the content's hash in a folder's name."""


def prepare(
    rows: str | Path | Rows, out: str | Path, *, validation: float | None = None, **options: Any
) -> Path:
    """Write rows, or a file of them, as a prepared data set; returns its folder.

    validation: share of the rows that goes to a second folder, `OUT_validation`, instead; it shares no image
    and no question with the first. options: those of `gpg-vl prepare jsonl`, such as answer_type="number".
    Rows that cannot be used are listed in its skipped.jsonl. Raises DataError if the folder exists, or no row
    can be used, ConfigurationError for an unknown option or a share that is none.
    """
    if validation is not None:
        share_in_range(validation, "validation")
    converter, of_a_file = converters.get(_ROWS), isinstance(rows, str | Path)
    known_options(options, [*inspect.signature(converter.function).parameters][1:], "option of prepare")
    drafts = converter.function(str(rows) if of_a_file else rows, **options)
    settings: dict[str, Any] = {
        "source": str(rows) if of_a_file else "rows",
        "converter": converter.name,
        "version": converter.version,
        "options": options,
        "unreadable_gold": unreadable_gold,
    }
    if validation is None:
        write_prepared(drafts, Path(out), **settings)
    else:
        write_split(drafts, Path(out), validation, **settings)
    return Path(out)


def read(data: str | Path) -> PreparedDataset:
    """The samples of a prepared folder, by index; images are decoded when a sample is read."""
    return PreparedDataset.open([str(data)])


def folders(data: Data, store: Path) -> list[str]:
    """Prepared folders that hold `data`; rows are written into `store`, under a name that says what they are.

    The same rows are written once, so that a run goes on with the folder it had; each of a launch's processes
    writes them, and the first to be done leaves its folder to all.
    """
    rows = _file_or_rows(data)
    if isinstance(rows, list) and all(isinstance(one, str | Path) for one in rows):
        return [folder for one in rows for folder in folders(one, store)]
    return _written(rows, store)


def _listed(data: Iterable[Any]) -> list[Any]:
    if not isinstance(data, Iterable):
        raise ConfigurationError(
            f"data is rows, such as a list of dicts, a file of rows, or prepared folders, got {data!r}"
        )
    listed = data.to_dict("records") if isinstance(data, pd.DataFrame) else list(data)
    if not listed:
        raise DataError("data is empty: there is no row in it; an iterator gives its rows only once")
    return listed


def parts(data: Data, share: float, store: Path) -> tuple[list[str], list[str]]:
    """As `folders`, of what is trained on and of a share for validation, from 0 to 1.

    Raises ConfigurationError for anything but rows or a file of them, and for a share that is none.
    """
    share_in_range(share, "validation")
    rows = data if isinstance(data, Mapping) else _file_or_rows(data)
    if isinstance(rows, str | Mapping):
        raise ConfigurationError(
            f"validation={share:g} parts rows, or a file of them: a prepared folder has its own, "
            "`gpg-vl prepare --validation` writes both"
        )
    train, validation = _written(rows, store, share)
    return [train], [validation]


def _file_or_rows(data: Data) -> str | Path | Rows:
    """A prepared folder as text, a file of rows as its path, rows as they are."""
    if not isinstance(data, str | Path):
        return _listed(data)
    path = Path(data)
    return path if path.suffix in _FILES and path.is_file() else str(data)


def _written(rows: str | Path | Rows, store: Path, share: float | None = None) -> list[str]:
    """The folder of rows, and with a share that of validation behind it."""
    if isinstance(rows, str):
        return [rows]
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=store) as own:
        folder = prepare(rows, Path(own) / "rows", validation=share)
        name = rows.stem if isinstance(rows, Path) else "rows"
        target = store / f"{name}-{read_manifest(folder)['sha256'][:_NAME]}"
        made = {folder: target}
        if share is not None:
            made = {validation_folder(folder): validation_folder(target), folder: target}
        for written, final in made.items():
            with contextlib.suppress(OSError):  # it is there already
                os.rename(written, final)
    return [str(final) for final in reversed(made.values())]
