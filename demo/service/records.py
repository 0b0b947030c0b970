"""A run's rollout records: steps, groups and answers, read as far as they are shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpg_vl.errors import DataError

_OVERVIEW = ["group", "prompt_id", "task", "reward", "valid"]
Record = Mapping[str, Any]
"""One answer with the columns of `gpg_vl.training.records`; `rewards` is parsed."""


@dataclass(frozen=True)
class GroupEntry:
    """One group of a step, as the list shows it."""

    group: int
    """Its number in the step: the same question may come twice."""
    prompt_id: str
    task: str
    valid: bool
    mean: float
    """Of the weighted rewards."""
    matches: int
    """Answers that hold the searched text; all of them without one."""


def steps(run: Path) -> dict[int, Path]:
    """The files of rollout records by step."""
    found = {path.stem.removeprefix("step_"): path for path in (run / "rollouts").glob("step_*.parquet")}
    return {int(number): found[number] for number in sorted(found) if number.isdigit()}


def nearest(files: Mapping[int, Path], step: float) -> int:
    """The recorded step closest to `step`, the earlier one of two; a run may not have recorded every one."""
    return min(files, key=lambda number: (abs(number - step), number))


def overview(path: Path, text: str = "") -> list[GroupEntry]:
    """The groups of a step, only those with an answer that holds `text` in any case.

    Reads the answers' text only if there is one to search for. Raises DataError for a broken file.
    """
    wanted = text.strip()
    table = _read(path, [*_OVERVIEW, "text"] if wanted else _OVERVIEW)
    if wanted:
        hit = pc.match_substring(table["text"], wanted, ignore_case=True)
        table = table.append_column("hit", pc.cast(hit, pa.int64()))
    groups: dict[int, list[Record]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["group"], []).append(row)
    entries = [_entry(rows) for _, rows in sorted(groups.items())]
    return [entry for entry in entries if entry.matches]


def _entry(rows: Sequence[Record]) -> GroupEntry:
    first = rows[0]
    mean = sum(row["reward"] for row in rows) / len(rows)
    matches = sum(row.get("hit", 1) for row in rows)
    return GroupEntry(first["group"], first["prompt_id"], first["task"], first["valid"], mean, matches)


def label(entry: GroupEntry, *, searched: bool = False) -> str:
    """One line about a group."""
    parts = [str(entry.group + 1), entry.task, entry.prompt_id, "valid" if entry.valid else "discarded"]
    parts.append(f"mean reward {entry.mean:.2f}")
    if searched:
        parts.append(f"{entry.matches} found")
    return " · ".join(parts)


def answers(path: Path, group: int) -> list[Record]:
    """A group's answers, the highest advantage first, equal ones in the order of sampling.

    Raises DataError for a broken file, and if the step has no such group.
    """
    rows = _read(path, None, [("group", "=", group)]).to_pylist()
    if not rows:
        raise DataError(f"{path.name} has no group {group + 1}; choose the step again")
    for row in rows:
        row["rewards"] = json.loads(row["rewards"])
    return sorted(rows, key=lambda row: (-row["advantage"], row["answer_index"]))


def _read(path: Path, columns: list[str] | None, filters: Any = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns, filters=filters)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name} is no file of rollout records: {error}") from error
