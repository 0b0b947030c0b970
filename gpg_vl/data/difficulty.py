"""Pass rates of a prepared set's questions, recorded beside it: `DATA/difficulty/NAME.parquet`.

The set itself is never written to. Each file is one record: whose answers they were, when, and for each
question how many of how many were right.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.manifest import content_hash
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.runtime.files import replacing, sealed, unsealed

FOLDER = "difficulty"
"""In a prepared folder."""
_ENDING = ".parquet"
_ABOUT = b"gpg_vl"
_NAME = re.compile(r"\w[\w.+-]*")
_COLUMNS = pa.schema(
    {
        "id": pa.string(),
        "pass_rate": pa.float64(),
        "right": pa.int64(),
        "samples": pa.int64(),
        "model": pa.string(),
        "step": pa.int64(),
    }
)
_UNREADABLE = (OSError, pa.ArrowException, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class PassRate:
    """How many of a question's answers were right."""

    right: int
    samples: int
    """Answers that could be graded, at least 1."""
    step: int = 0
    """The training step of the weights that answered; 0 for a model that no run of this package trained."""

    @property
    def share(self) -> float:
        """From 0 to 1; exactly 0 and 1 where none and all were right."""
        return self.right / self.samples


@dataclass(frozen=True)
class Record:
    """One model's pass rates on a prepared set."""

    name: str
    rates: Mapping[str, PassRate]
    """By the question's id."""
    about: Mapping[str, Any]
    """`model`, `recorded` (when, in UTC), `data` (the set's content hash), and how it was asked."""

    @property
    def digest(self) -> str:
        """Of the rates: two records with the same one choose and order alike."""
        return _digest(self.rates)


def record_file(folder: str, name: str) -> Path:
    """Where a record is, or would be. Raises ConfigurationError for what is no file's name."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a record: letters, digits and . _ + - make one, such as qwen2_vl_2b"
        )
    return Path(folder) / FOLDER / f"{name}{_ENDING}"


def write_record(folder: str, name: str, rates: Mapping[str, PassRate], about: Mapping[str, Any]) -> Record:
    """Write pass rates beside a prepared set, whole or not at all. Raises WriteError, DataError if none.

    about: at least `model`; the set's content hash and the time are added.
    """
    if not rates:
        raise DataError(f"no question of {folder!r} has a graded answer: there is no pass rate to record")
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    known = {**about, "data": content_hash(folder), "recorded": now, "digest": _digest(rates)}
    rows = [
        {"id": id, "pass_rate": rate.share, "model": about["model"], **vars(rate)}
        for id, rate in rates.items()
    ]
    schema = _COLUMNS.with_metadata({_ABOUT: json.dumps(sealed(known)).encode()})
    with replacing(record_file(folder, name)) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, write_page_checksum=True)
    return Record(name, dict(rates), known)


def read_record(folder: str, name: str) -> Record:
    """A record of this set. Raises DataError for one that is missing, damaged, or of other rows."""
    path = record_file(folder, name)
    if not path.is_file():
        raise DataError(_missing(folder, name))
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = _about(file.schema_arrow.metadata, path)
            rows = file.read(columns=["id", "right", "samples", "step"]).to_pylist()
        rates = {row["id"]: PassRate(row["right"], row["samples"], row["step"]) for row in rows}
        whole = about["digest"] == _digest(rates)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error
    if not whole:
        raise _damaged(path, "its pass rates are others than were written")
    if about["data"] != content_hash(folder):
        raise DataError(
            f"{str(path)!r} was recorded for other rows than {folder!r} holds by now: remove it, and record "
            "these with `gpg-vl data difficulty`"
        )
    return Record(name, rates, about)


def record_names(folder: str) -> list[str]:
    """The records beside a set, the newest last. Raises DataError for a damaged one."""
    paths = (Path(folder) / FOLDER).glob(f"*{_ENDING}")
    found = [path for path in paths if _NAME.fullmatch(path.stem)]
    return [path.stem for path in sorted(found, key=lambda path: (_recorded(path), path.stem))]


def _recorded(path: Path) -> str:
    try:
        return str(_about(pq.read_schema(path).metadata, path)["recorded"])
    except DataError:
        raise
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error


def _about(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    if metadata is None or _ABOUT not in metadata:
        raise _damaged(path, "it does not say whose answers it counts")
    return unsealed(dict(json.loads(metadata[_ABOUT])), path)


def _digest(rates: Mapping[str, PassRate]) -> str:
    counts = sorted((id, rate.right, rate.samples) for id, rate in rates.items())
    return hashlib.sha256(json.dumps(counts).encode()).hexdigest()


def _missing(folder: str, name: str) -> str:
    there = ", ".join(record_names(folder)) or "none"
    return (
        f"{folder!r} has no record {name!r} of pass rates; there are: {there}. "
        f"`gpg-vl data difficulty {folder} --model MODEL --name {name}` makes one"
    )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{str(path)!r} is no record of pass rates, or is damaged: {' '.join(why.split())}; "
        "remove it, and record them again with `gpg-vl data difficulty`"
    )
