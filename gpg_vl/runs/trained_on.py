"""The prepared sets that a run is trained on, by their rows: a folder may be prepared anew."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.data.manifest import MANIFEST, content_hash
from gpg_vl.errors import RunFolderError
from gpg_vl.runs.resume import ENVIRONMENT


def content_hashes(folders: Sequence[str]) -> dict[str, str | None]:
    """The hash of each prepared set's rows; what is no prepared set is left out."""
    return {folder: content_hash(folder) for folder in folders if (Path(folder) / MANIFEST).is_file()}


def noted_hashes(run: Path) -> dict[str, str | None]:
    """The hashes of the sets that a run noted. Raises RunFolderError for a damaged note."""
    file = run / ENVIRONMENT
    try:
        noted = json.loads(file.read_text(encoding="utf-8")).get("data", {}) if file.is_file() else {}
        return dict(noted.items())
    except (OSError, AttributeError, ValueError) as error:
        raise RunFolderError(f"cannot read {str(file)!r}, remove it to go without: {error}") from error


def prepared_anew(run: Path, folders: Sequence[str]) -> list[str]:
    """Those of the sets whose rows are others than the run noted when it started.

    What it did not note is believed: older runs have no hashes. Raises RunFolderError for a damaged note.
    """
    then = {os.path.realpath(folder): digest for folder, digest in noted_hashes(run).items()}
    now = content_hashes(folders)
    return [folder for folder in now if then.get(os.path.realpath(folder), now[folder]) != now[folder]]
