"""Damages to files, drawn from a seed, and what may come of them."""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpg_vl.errors import UserError
from tests.support.permissions import permissions_hold


@dataclass(frozen=True)
class Damage:
    """What is done to one file."""

    kind: str
    file: Path
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} {self.file.parent.name}/{self.file.name} (seed {self.seed})"

    def inflict(self) -> None:
        """Do it."""
        draw = random.Random(self.seed)
        content = bytearray(self.file.read_bytes())
        if self.kind == "removed" or self.kind == "folder":
            self.file.unlink()
        if self.kind == "folder":
            self.file.mkdir()
        if self.kind == "denied":
            self.file.chmod(0)
        if self.kind == "empty":
            self.file.write_bytes(b"")
        if self.kind == "cut":
            self.file.write_bytes(content[: draw.randrange(len(content) + 1)])
        if self.kind == "flipped" and content:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            self.file.write_bytes(content)


KINDS = ("flipped", "flipped", "cut", "empty", "removed", "folder", "denied")


def draw_damage(folder: Path, seed: int, *, without: Sequence[str] = ()) -> Damage:
    """A damage to one of the files below `folder`; none to files named in `without`."""
    draw = random.Random(seed)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in without)
    return Damage(draw.choice(KINDS), draw.choice(files), seed)


def outcome(work: Callable[[], Any], expected: Any) -> str:
    """`refused`, `same` or `other`; what is no mistake of the user is raised."""
    try:
        with permissions_hold():
            found = work()
    except UserError as error:
        assert str(error).strip()
        return "refused"
    return "same" if found == expected else "other"


def copied(folder: Path, place: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(folder, place))
