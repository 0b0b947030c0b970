"""Writing files so that a killed process leaves the old one or the new one, never half of one.

What is damaged later shows by digests: `sealed` for JSON, `write_digests` for a folder.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError, UserError, WriteError

_SEAL = "seal"
_BEFORE, _BEHIND = ".", ".tmp"
"""Around a file's name while it is being written."""
_PART = 1 << 20
DIGESTS = "gpg_vl_files.json"
"""In a folder: a CRC-32 of each of its files by name. It shows damage, not malice, at the speed of a disk."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise WriteError, with the reason and the place, where the system refuses: a full or read-only disk."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise WriteError(f"cannot write {str(path)!r}: {reason}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write to, renamed over `path` at the end; makes the folder if need be.

    Raises WriteError where that fails; nothing is left of what was not written whole.
    """
    temporary = path.with_name(f"{_BEFORE}{path.name}{_BEHIND}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def final_name(name: str) -> str:
    """The name that a temporary neighbour of `replacing` is to have; any other name as it is."""
    unfinished = name.startswith(_BEFORE) and name.endswith(_BEHIND)
    return name.removeprefix(_BEFORE).removesuffix(_BEHIND) if unfinished else name


def write_whole(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write `text` to `path` in UTF-8, whole or not at all. Raises WriteError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def append(path: Path, text: str) -> None:
    """Write `text` behind what is in `path`. Raises WriteError; a part of the text may be there then."""
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def complete_lines(path: Path) -> list[str]:
    """Lines that end in a newline, none without the file: a killed run may leave half of one.

    Raises DataError for a file that cannot be read.
    """
    if not path.exists():
        return []
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from error


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with a digest of them, which `unsealed` checks."""
    return {**values, _SEAL: _digest(values)}


def unsealed(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What was sealed; values without a seal as they are. Raises DataError where they are others by now."""
    plain = {key: value for key, value in values.items() if key != _SEAL}
    if _SEAL in values and values[_SEAL] != _digest(plain):
        raise DataError(
            f"{str(path)!r} is damaged, or was changed by hand: its {_SEAL!r} is of other values. Restore "
            f"it, or remove its {_SEAL!r} to use it as it is"
        )
    return plain


def _digest(values: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(values))  # tuples are lists then, and keys texts
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


_EDITED = "README.md"
"""What people may go on writing."""


def write_digests(folder: Path) -> None:
    """Write down the digest of each file of a folder, subfolders and its README excluded."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != _EDITED]
    digests = {file.name: _file_digest(file) for file in files}
    write_whole(folder / DIGESTS, json.dumps(digests, indent=1))


def damaged_file(folder: Path) -> str | None:
    """The first file that is missing or other than when the folder was written; None without digests."""
    file = folder / DIGESTS
    if not file.is_file():
        return None
    try:
        digests = dict(json.loads(file.read_text(encoding="utf-8")))
        return next((name for name in digests if _file_digest(folder / name) != digests[name]), None)
    except (OSError, ValueError, TypeError) as error:
        return getattr(error, "filename", None) or DIGESTS


def _file_digest(path: Path) -> str:
    digest = 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest = zlib.crc32(part, digest)
    return f"{digest:08x}"
