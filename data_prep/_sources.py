"""Reading published data sets: rows of a local copy or of the hub, lines of JSON, images."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from gpg_vl.errors import DataError, RowError


def dataset_rows(source: str, layout: str, *, splits: Sequence[str] = (), config: str = "") -> Iterator[Any]:
    """Stream the rows of a hub data set, or of a local folder or file of Parquet in its layout.

    Images come as `{"bytes": …, "path": …}`, not decoded. `splits` are tried in order; the first that exists
    is read, all files where none is given. `layout` says in words what a local copy looks like.
    Raises DataError if nothing is found, or the hub cannot be reached.
    """
    raise NotImplementedError  # written with the streaming writer


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
        return Image.open(source if isinstance(source, Path) else io.BytesIO(source))
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
