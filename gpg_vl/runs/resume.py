"""What `--out` and `--resume` name, as far as folders and words tell."""

import os
import re
from pathlib import Path

from gpg_vl.checks import expand
from gpg_vl.errors import CheckpointError, RunFolderError
from gpg_vl.runs.lock import LOCK
from gpg_vl.runtime.files import complete_lines, final_name
from gpg_vl.yaml_file import read_yaml

AUTO = "auto"
PREFIX = "step_"
"""Of a checkpoint's name, before the number of its step."""
ENVIRONMENT = "environment.json"
STARTED_WITH = ("config.yaml", ENVIRONMENT)
WRITTEN_AT_START = (LOCK, *STARTED_WITH)
_NAME = re.compile(rf"{PREFIX}\d+")


def step_of(checkpoint: Path) -> int | None:
    """The step in a checkpoint's name; None if it has another name."""
    return int(checkpoint.name.removeprefix(PREFIX)) if _NAME.fullmatch(checkpoint.name) else None


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder; the opposite of `step_of`."""
    return f"{PREFIX}{step:06d}"


def used(folder: Path) -> bool:
    """Whether something is there that must not be lost.

    A run that failed while starting left nothing such. Neither did one that is starting, whatever it is
    just writing: of the processes of a launch, the first may be ahead.
    """
    if not os.path.isdir(folder):
        return os.path.lexists(folder)
    return any(final_name(entry.name) not in WRITTEN_AT_START for entry in folder.iterdir())


def check_unused(out: str) -> None:
    """Raise RunFolderError if a new run cannot have this folder."""
    above = next(place for place in (Path(out), *Path(out).absolute().parents) if os.path.lexists(place))
    if not os.path.isdir(above):
        raise RunFolderError(f"cannot write to {out!r}: {str(above)!r} is a file")
    try:
        is_used = used(Path(out))
    except OSError as error:
        raise RunFolderError(f"cannot write to {out!r}: {error}") from error
    if is_used and not died_early(Path(out)):
        raise RunFolderError(
            f"{out!r} exists and is not empty: choose another --out, go on with --resume auto, or delete the "
            "run in it with --overwrite"
        )


def died_early(folder: Path) -> bool:
    """Whether a run ended here before its first checkpoint, so that there is nothing to go on from.

    A finished run whose checkpoints were removed is none: it was reported, or has more steps.
    """
    started = all((folder / name).is_file() for name in STARTED_WITH)
    if not started or list_checkpoints(folder / "checkpoints") or (folder / "report.html").exists():
        return False
    lengths = read_yaml(folder / "config.yaml").get("run") or {}
    first_save = lengths.get("save_every") or lengths.get("steps") or 0
    steps = len(complete_lines(folder / "metrics.jsonl"))
    return isinstance(first_save, int) and steps <= first_save  # as many where that save failed


def resumed_folder(resume: str, checkpoints: Path) -> Path:
    """The checkpoint folder that `resume`, which is not AUTO, names; `checkpoints` is the run's.

    Raises CheckpointError where there is none, with what to type instead.
    """
    path = Path(expand(resume))
    if os.path.isdir(path / "state"):
        return path
    raise CheckpointError(f"--resume {resume!r} is not a checkpoint; {_cure(path, checkpoints)}")


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / "state").is_dir())


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return next(reversed(list_checkpoints(folder)), None)


def _cure(path: Path, checkpoints: Path) -> str:
    for place in (path / "checkpoints", path, path.parent):  # a run, its checkpoints, a part of one
        if place.resolve() == checkpoints.resolve() and not _NAME.fullmatch(path.name):
            return f"--resume {AUTO} goes on with the run's newest"
        if newest := newest_checkpoint(place):
            return f"the newest there is --resume {newest}"
    if (path.parent / "state").is_dir():
        return f"did you mean --resume {path.parent}?"
    return f"--resume {AUTO} goes on with the newest of the run in --out, or name one of {str(checkpoints)!r}"
