"""Questions of prepared sets, by set, task and number."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import DataError, unknown
from gpg_vl.evaluation.benchmarks import Benchmark, protocol_of
from gpg_vl.types import Sample

ALL_TASKS = "all tasks"
_MATHEMATICS = "math"
"""The converter of questions without images."""
_DIGITS = 12
"""Of the hash of a set's content: enough to tell two sets in one folder apart."""


@dataclass(frozen=True)
class Place:
    """Where a question stands."""

    folder: str
    row: int


class PreparedSets:
    """Prepared folders, each opened when it is first looked into; threads may ask at the same time."""

    def __init__(self, folders: Sequence[str]) -> None:
        """Raises DataError for a folder that is no prepared set."""
        self._manifests: dict[str, dict[str, Any]] = {
            folder: read_manifest(Path(folder)) for folder in folders
        }
        self._opened: dict[str, tuple[PreparedDataset, list[str]]] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()

    def folders(self, *, mathematics: bool) -> list[str]:
        """The sets written by `prepare math`, or all others."""
        return [
            folder
            for folder, manifest in self._manifests.items()
            if (manifest.get("converter") == _MATHEMATICS) == mathematics
        ]

    def tasks(self, folder: str) -> list[str]:
        """Names to choose from: all tasks, then each."""
        tasks = sorted(self._manifest(folder)["tasks"])
        return [ALL_TASKS, *tasks] if len(tasks) > 1 else tasks

    def count(self, folder: str, task: str) -> int:
        """Questions of a task."""
        return len(self._rows(folder, task))

    def place(self, folder: str, task: str, number: int) -> Place:
        """Question `number` of a task, from 1 on. Raises DataError if there is none."""
        rows = self._rows(folder, task)
        if not 1 <= number <= len(rows):
            raise DataError(f"{folder!r} has {len(rows)} questions of {task}; there is no {number}")
        return Place(folder, rows[number - 1])

    def sample(self, place: Place) -> Sample:
        """The question with its images decoded."""
        return self._data(place.folder)[0][place.row]

    def sent(self, place: Place | None) -> str:
        """A place as a page keeps it and sends it back; empty for none.

        The page's own memory, not the server's: a server that was started again forgets every page.
        """
        if place is None:
            return ""
        sample_id = self._data(place.folder)[0].column("id")[place.row]
        content = str(self._manifest(place.folder).get("sha256", ""))[:_DIGITS]
        told = {"folder": place.folder, "row": place.row, "id": sample_id, "content": content}
        return json.dumps(told)

    def placed(self, sent: object) -> Place | None:
        """The place that a page sent; None for an empty one.

        Raises DataError if no question, or another one, stands there now.
        """
        if not sent:
            return None
        try:
            told = json.loads(str(sent))
            place = Place(str(told["folder"]), int(told["row"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise DataError("the page sent no place of a question: reload it") from error
        served = place.folder in self._manifests and 0 <= place.row < len(self._data(place.folder)[1])
        if not served or self.sent(place) != sent:
            raise DataError(
                "the question on this page is in none of the sets that are served now: reload the page and "
                "choose one again"
            )
        return place

    def protocol(self, place: Place) -> Benchmark:
        """How its benchmark asks and grades."""
        return protocol_of([place.folder])

    def find(self, sample_id: str) -> Place | None:
        """Where the question with this id stands; None if it is in none of the sets."""
        for folder in self._manifests:
            row = self._rows_by_id(folder).get(sample_id)
            if row is not None:
                return Place(folder, row)
        return None

    def find_stored(self, sample_id: str, question: str) -> Place | None:
        """Where a question of an evaluation stands; None if its set was not given, or is another."""
        place = self.find(sample_id)
        same = place is not None and self.sample(place).question == question
        return place if same else None

    def _rows_by_id(self, folder: str) -> dict[str, int]:
        if folder not in self._places:
            ids: list[str] = self._data(folder)[0].column("id")
            self._places[folder] = {id: row for row, id in enumerate(ids)}
        return self._places[folder]

    def named(self, place: Place) -> tuple[str, str, int]:
        """Set, task and number that lead to a place."""
        return place.folder, self.tasks(place.folder)[0], place.row + 1

    def _manifest(self, folder: str) -> dict[str, Any]:
        if not isinstance(folder, str) or folder not in self._manifests:
            raise DataError(unknown("prepared set", str(folder), self._manifests))
        return self._manifests[folder]

    def _rows(self, folder: str, task: str) -> Sequence[int]:
        if task not in self.tasks(folder):
            raise DataError(unknown(f"task of {folder}", task, self.tasks(folder)))
        _, tasks = self._data(folder)
        if task == ALL_TASKS:
            return range(len(tasks))
        return [row for row, name in enumerate(tasks) if name == task]

    def _data(self, folder: str) -> tuple[PreparedDataset, list[str]]:
        """The rows of a set and the task of each."""
        self._manifest(folder)
        with self._lock:
            if folder not in self._opened:
                data = PreparedDataset.open([folder])
                self._opened[folder] = data, data.column("task")
            return self._opened[folder]
