"""Answered questions of an evaluation that is under way, so that a killed one goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpg_vl.runs.files import Item
from gpg_vl.runtime.files import complete_lines, write_whole


class PartialFile:
    """One JSON object a line: first what the evaluation is of, then items with their row numbers."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        """Take up the items in `path`, or start anew where they are of another evaluation."""
        self.path = path
        self.items: dict[int, Item] = {}
        self.note = ""
        """What became of an earlier file; empty without one."""
        header, *lines = complete_lines(path) or ["{}"]
        before, now = json.loads(header), json.loads(json.dumps(fingerprint))
        if before == now:
            self.items = {row: item for row, item in map(json.loads, lines)}
            self.note = f"{path}: going on after {len(self.items)} answered questions"
        elif path.exists():
            changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            self.note = f"{path} is of another evaluation ({', '.join(changed)} differ): starting anew"
        write_whole(path, "".join(f"{line}\n" for line in (json.dumps(now), *self._lines(self.items))))

    def append(self, items: Mapping[int, Item]) -> None:
        """Add answered questions by their row numbers."""
        with self.path.open("a") as file:
            file.writelines(f"{line}\n" for line in self._lines(items))

    @staticmethod
    def _lines(items: Mapping[int, Item]) -> list[str]:
        return [json.dumps(pair) for pair in items.items()]
