"""The rows that a run trains on by difficulty; one that is resumed goes on with exactly these."""

import json
from collections.abc import Sequence
from pathlib import Path

from gpg_vl.config import DataConfig
from gpg_vl.data.by_difficulty import Choice, choose
from gpg_vl.errors import CheckpointError, DataError
from gpg_vl.runtime.files import sealed, unsealed, write_whole
from gpg_vl.runtime.parallel import World

FILE = "difficulty.json"
"""In a checkpoint's `state`: the records that were gone by, and a digest of what came of them."""


def choose_rows(data: DataConfig, checkpoint: Path | None, world: World) -> Choice | None:
    """The rows by difficulty, None where it has no say; all processes call it.

    With a checkpoint it is by the records which that run went by, though newer ones may lie there. Raises
    DataError as `choose` does and if processes would choose differently, CheckpointError if the same rows
    cannot be had again.
    """
    if not data.by_difficulty:
        return None
    choice = world.together(lambda: _chosen(data, checkpoint))
    if len(set(world.gather([choice.digest]))) > 1:
        raise DataError(
            f"the pass rates beside data.train ({', '.join(data.train)}) are not the same on every machine, "
            "or changed while the run started: copy them to all, or name one with data.difficulty.record"
        )
    return choice


def _chosen(data: DataConfig, checkpoint: Path | None) -> Choice:
    if checkpoint is None:
        return choose(data.train, data.difficulty)
    records, digest = _read(checkpoint / "state" / FILE)
    choice = choose(data.train, data.difficulty, records)
    if choice.digest != digest:
        raise CheckpointError(
            f"{str(checkpoint)!r} was trained with other pass rates than those recorded beside data.train by "
            f"now ({', '.join(filter(None, records))}): restore them, or start a new run from its weights: "
            f"--model.path {checkpoint / 'model'}"
        )
    return choice


def write_choice(folder: Path, choice: Choice) -> None:
    """Note in a checkpoint's `state` what `choose_rows` needs to choose again. Raises WriteError."""
    known = {"records": list(choice.records), "digest": choice.digest}
    write_whole(folder / FILE, json.dumps(sealed(known), indent=1))


def _read(path: Path) -> tuple[Sequence[str | None], str]:
    try:
        known = unsealed(dict(json.loads(path.read_text(encoding="utf-8"))), path)
        return list(known["records"]), str(known["digest"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error}") from error
