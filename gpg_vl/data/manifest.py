"""What a prepared folder says of itself."""

import json
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.runtime.files import unsealed

MANIFEST = "manifest.json"


def check_prepared(folder: str) -> None:
    """Raise DataError if a folder cannot be a prepared data set."""
    if not (Path(folder) / MANIFEST).is_file():
        raise not_prepared(Path(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared set. Raises DataError if the folder is none, or the manifest is damaged."""
    try:
        return unsealed(dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))), folder / MANIFEST)
    except DataError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise not_prepared(folder) from error


def content_hash(folder: str) -> str | None:
    """The SHA-256 of a set's rows; None where its manifest has none."""
    return read_manifest(Path(folder)).get("sha256")


def not_prepared(folder: Path) -> DataError:
    """What to raise for a folder that `gpg-vl prepare` did not write."""
    why = "" if folder.exists() else " (there is no such folder)"
    return DataError(f"{str(folder)!r} is not a prepared data set; make one with `gpg-vl prepare`{why}")
