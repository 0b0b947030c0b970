"""Writing files so that a killed process leaves the old one or the new one, never half of one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write to, renamed over `path` at the end; makes the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def complete_lines(path: Path) -> list[str]:
    """Lines that end in a newline, none without the file: a killed run may leave half of one."""
    return path.read_text().split("\n")[:-1] if path.is_file() else []
