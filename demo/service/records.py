"""A run's rollout records: steps, groups and answers, read as far as they are shown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpg_vl.errors import DataError
from gpg_vl.report.results import minus

_OVERVIEW = ["group", "prompt_id", "task", "reward", "valid"]
_ANSWER = ["round", "answer_index", "gold", "text", "answer", "finish_reason", "token_count"]
_ANSWERS = [*_OVERVIEW, *_ANSWER, "rewards", "advantage"]
_NUMBERS = ("group", "answer_index", "reward", "advantage", "token_count", "round")
_MAY_LACK = ("answer",)
"""Columns with holes: an answer may have no part that could be read as one."""
Record = Mapping[str, Any]
"""One answer with the columns of `gpg_vl.training.records`; `rewards` is parsed, None if it cannot be."""


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


@dataclass(frozen=True)
class Looked:
    """What a search has found in one step."""

    step: int
    entries: Sequence[GroupEntry]
    problem: str = ""
    """Why the step could not be searched."""


def steps(run: Path) -> dict[int, Path]:
    """The files of rollout records by step."""
    found = {path.stem.removeprefix("step_"): path for path in (run / "rollouts").glob("step_*.parquet")}
    numbers = sorted((int(number), number) for number in found if number.isascii() and number.isdigit())
    return {step: found[number] for step, number in numbers}


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
        table = table.append_column("hit", pc.cast(_hits(table, wanted), pa.int64()))
    groups: dict[int, list[Record]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["group"], []).append(row)
    entries = [_entry(rows) for _, rows in sorted(groups.items())]
    return [entry for entry in entries if entry.matches]


def search(files: Mapping[int, Path], text: str) -> Iterator[Looked]:
    """What each step holds of `text`, the newest step first; whoever looks on stops when it is enough.

    Of a step without it only the answers' text is read.
    """
    for step in sorted(files, reverse=True):
        try:
            holds = pc.any(_hits(_read(files[step], ["text"]), text.strip())).as_py()
            yield Looked(step, overview(files[step], text) if holds else [])
        except DataError as error:
            yield Looked(step, [], str(error))


def _hits(table: pa.Table, text: str) -> pa.ChunkedArray:
    """Whether each answer holds the text, in any case."""
    return pc.match_substring(table["text"], text, ignore_case=True)


def _entry(rows: Sequence[Record]) -> GroupEntry:
    first = rows[0]
    mean = sum(row["reward"] for row in rows) / len(rows)
    matches = sum(row.get("hit", 1) for row in rows)
    return GroupEntry(first["group"], first["prompt_id"], first["task"], first["valid"], mean, matches)


def label(entry: GroupEntry, *, searched: bool = False) -> str:
    """One line about a group."""
    parts = [str(entry.group + 1), entry.task, entry.prompt_id, "valid" if entry.valid else "discarded"]
    parts.append(minus(f"mean reward {entry.mean:.2f}"))
    if searched:
        parts.append(f"{entry.matches} found")
    return " · ".join(parts)


def hit_label(step: int, entry: GroupEntry) -> str:
    """One line about a group of any step that a search has found."""
    return f"step {step:,} · group {entry.group + 1} · {entry.task} · {entry.matches} found"


def answers(path: Path, group: int) -> list[Record]:
    """A group's answers, the highest advantage first, equal ones in the order of sampling.

    Raises DataError for a broken file, and if the step has no such group.
    """
    rows = _parsed(_read(path, _ANSWERS, [("group", "=", group)]))
    if not rows:
        raise DataError(f"{path.name} has no group {group + 1}; choose the step again")
    return sorted(rows, key=lambda row: (-row["advantage"], row["answer_index"]))


def groups(path: Path) -> list[list[Record]]:
    """All groups of a step, each in the order of sampling. Raises DataError for a broken file."""
    found: dict[int, list[Record]] = {}
    for row in _parsed(_read(path, _ANSWERS)):
        found.setdefault(row["group"], []).append(row)
    return [sorted(found[number], key=lambda row: row["answer_index"]) for number in sorted(found)]


def _parsed(table: pa.Table) -> list[dict[str, Any]]:
    return [{**row, "rewards": _rewards(row["rewards"])} for row in table.to_pylist()]


def _rewards(text: str) -> dict[str, float] | None:
    """Scores by the reward's name; None if that is not what the text holds."""
    try:
        scores = json.loads(text)
    except ValueError:
        return None
    numbers = isinstance(scores, dict) and all(isinstance(one, int | float) for one in scores.values())
    return scores if numbers else None


def _read(path: Path, columns: list[str], filters: Any = None) -> pa.Table:
    """These columns, whole. Raises DataError for a file that is none of rollout records."""
    try:
        table = pq.read_table(path, columns=columns, filters=filters)
    except FileNotFoundError as error:
        raise DataError(f"{path.name} is there no more; choose the step again") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name} is no file of rollout records: {error}") from error
    lacking = [name for name in columns if name not in table.column_names]
    holes = [n for n in columns if n not in (*lacking, *_MAY_LACK) and table[n].null_count]
    if lacking or holes:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has rows without {', '.join(holes)}"
        raise DataError(f"{path.name} is no file of rollout records: it {what}")
    for name in columns:
        if name in _NUMBERS and not _is_number(table[name].type):
            raise DataError(f"{path.name} is no file of rollout records: {name} holds {table[name].type}")
    return table


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
