"""Answered questions of an evaluation that is under way, so that a killed one goes on."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpg_vl.runs.files import Item
from gpg_vl.runtime.files import append, complete_lines, write_whole


class PartialFile:
    """One JSON object a line: first what the evaluation is of, then row numbers, items and checksums."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Take up the items in `path`, or start anew where they are of another evaluation."""
        self.path = path
        self.items: dict[int, Item] = {}
        self.note = ""
        """What became of an earlier file; empty without one."""
        now = json.loads(json.dumps(fingerprint))
        before, self.items, damaged = _read(path)
        if before != now:
            self.items = {}
            changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            if path.exists():
                self.note = f"{path} is of another evaluation ({', '.join(changed)} differ): starting anew"
        else:
            self.note = f"{path}: going on after {len(self.items)} answered questions"
            self.note += f"; {damaged} damaged lines are left out" if damaged else ""
        write_whole(path, "".join(f"{line}\n" for line in (json.dumps(now), *_lines(self.items))))

    def append(self, items: Mapping[int, Item]) -> None:
        """Add answered questions by their row numbers. Raises WriteError."""
        append(self.path, "".join(f"{line}\n" for line in _lines(items)))


def _lines(items: Mapping[int, Item]) -> list[str]:
    return [json.dumps([row, item, _check(row, item)]) for row, item in items.items()]


def _check(row: int, item: Item) -> int:
    return zlib.crc32(json.dumps([row, item]).encode())


def _read(path: Path) -> tuple[dict[str, Any], dict[int, Item], int]:
    """What the evaluation is of, its items by row number, and how many lines are damaged."""
    header, *lines = complete_lines(path) or ["{}"]
    items: dict[int, Item] = {}
    for line in lines:
        try:
            row, item, check = json.loads(line)
            if check == _check(row, item):
                items[row] = item
        except (TypeError, ValueError):
            continue
    try:
        return dict(json.loads(header)), items, len(lines) - len(items)
    except (TypeError, ValueError):
        return {}, {}, len(lines)
