"""What is left in a folder that a new run is to have: looked through, moved aside, or deleted.

Nothing that a run did not write is ever touched.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gpg_vl.errors import ConfigurationError, RunFolderError
from gpg_vl.runs.lock import LOCK, locked
from gpg_vl.runs.resume import STARTED_WITH, check_unused, list_checkpoints, used
from gpg_vl.runtime.files import complete_lines, final_name, writing
from gpg_vl.runtime.launched import launched

_WRITTEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((LOCK, *STARTED_WITH, "metrics.jsonl", "report.html"), ()),
    "checkpoints": ("step_*", ".*step_*", "best.json"),
    "rollouts": ("step_*.parquet",),
    "eval": ("step_*.json",),
    "plots": ("*.png",),
    "profile": ("*",),
    "gpg-vl": ("*",),  # TensorBoard's
}
"""What a run writes: files, and folders with the patterns of what is in them."""


def foreign(folder: Path) -> Iterator[str]:
    """What is in a folder that no run wrote, by its path from there; links are none of a run's."""
    for entry in sorted(folder.iterdir()):
        patterns = _WRITTEN.get(final_name(entry.name))
        if patterns is None or entry.is_symlink() or entry.is_dir() != bool(patterns):
            yield entry.name
        elif entry.is_dir():
            inner = (one for one in sorted(entry.iterdir()) if not _matches(one, patterns))
            yield from (f"{entry.name}/{one.name}" for one in inner)


def _matches(entry: Path, patterns: tuple[str, ...]) -> bool:
    name = Path(final_name(entry.name))
    return not entry.is_symlink() and any(name.match(pattern) for pattern in patterns)


def check_deletable(folder: Path, read: Iterable[tuple[str, str]]) -> None:
    """Raise RunFolderError unless a folder is a run's, with nothing else in it.

    read: names of options and paths that the new run reads; ConfigurationError if one lies in the folder.
    """
    if not folder.is_dir():
        check_unused(str(folder))  # says why a file cannot be a folder
    _check_a_runs(folder)
    for name, path in read:
        if Path(path).resolve().is_relative_to(folder.resolve()):
            raise ConfigurationError(
                f"--overwrite would delete {name} {path!r}: copy it, or choose another --out"
            )


def _check_a_runs(folder: Path) -> None:
    others = list(foreign(folder))
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        why = f"it holds {', '.join(map(repr, others[:3]))}{more}, which no run wrote"
    elif not all((folder / name).is_file() for name in STARTED_WITH):
        why = f"it has no {' and '.join(STARTED_WITH)}"
    else:
        return
    raise RunFolderError(
        f"{str(folder)!r} is not a run's folder alone: {why}, and --overwrite deletes nothing else; choose "
        "another --out"
    )


def contents(folder: Path) -> str:
    """What a run left, in words, and its size on disk."""
    checkpoints = list_checkpoints(folder / "checkpoints")
    counts = {
        "step": len(complete_lines(folder / "metrics.jsonl")),
        "rollout record": len(list((folder / "rollouts").glob("*.parquet"))),
        "evaluation": len(list((folder / "eval").glob("*.json"))),
        "checkpoint": len(checkpoints),
    }
    words = [f"{count:,} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    newest = f" up to {checkpoints[-1].name}" if checkpoints else ""
    size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()) / 1e6
    return f"{', '.join(words) or 'nothing of a step'}{newest} ({size:,.1f} MB)"


def clear_dead_run(folder: Path) -> str:
    """Free the folder, locked by this process, of a run that ended before its first checkpoint.

    What its steps left (metrics, rollouts, evaluations) is moved beside the folder, anything else is deleted.
    Returns what was done, for the user. Raises RunFolderError if there is more than a run's own files,
    WriteError if it cannot be moved.
    """
    _check_a_runs(folder)
    found = contents(folder)
    records = [*folder.glob("rollouts/*.parquet"), *folder.glob("eval/*.json")]
    if not records and not complete_lines(folder / "metrics.jsonl"):
        _delete(folder)
        return f"{folder}: what a run left that ended before its first step is deleted"
    aside = _aside(folder.resolve())
    with writing(aside):
        aside.mkdir()
        for entry in _entries(folder):
            os.rename(entry, aside / entry.name)
    return f"{folder}: a run ended here before its first checkpoint; what it left, {found}, is now in {aside}"


def delete_earlier_run(
    folder: Path, read: Iterable[tuple[str, str]], agree: Callable[[str], None] = lambda found: None
) -> str:
    """Delete the run in a folder; returns what it held, in words, "" where there is none.

    Of a launch's processes the first does it for all. `agree` gets those words before, and may raise. Raises
    as `check_deletable`, which says what `read` is, and `delete_run` do.
    """
    here = launched()
    if (here is not None and here.rank) or not used(folder):
        return ""
    check_deletable(folder, read)
    with locked(folder):
        found = contents(folder)
    agree(found)
    delete_run(folder)
    return found


def delete_run(folder: Path) -> None:
    """Delete all that a run left. Raises RunFolderError if it is in use, or no run's folder alone."""
    with locked(folder):
        _check_a_runs(folder)
        _delete(folder)


def _aside(folder: Path) -> Path:
    """A name beside a folder that nothing has."""
    number = 1
    while os.path.lexists(folder.with_name(f"{folder.name}.ended-{number}")):
        number += 1
    return folder.with_name(f"{folder.name}.ended-{number}")


def _entries(folder: Path) -> list[Path]:
    """All but the lock; what makes it a run's folder comes last, so that half a job can be done again."""
    entries = [entry for entry in folder.iterdir() if entry.name != LOCK]
    return sorted(entries, key=lambda entry: entry.name in STARTED_WITH)


def _delete(folder: Path) -> None:
    with writing(folder):
        for entry in _entries(folder):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
