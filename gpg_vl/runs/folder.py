"""A run's folder: who owns it, what was used, and where things are."""

import contextlib
import json
import os
import sys
from pathlib import Path

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.environment import environment
from gpg_vl.errors import ConfigurationError, RunFolderError
from gpg_vl.options import to_yaml
from gpg_vl.runs.leftovers import clear_dead_run
from gpg_vl.runs.lock import LOCK, acquire
from gpg_vl.runs.resume import (
    ENVIRONMENT,
    WRITTEN_AT_START,
    check_unused,
    newest_checkpoint,
    step_of,
    used,
)
from gpg_vl.runs.settings import changed_settings, listed
from gpg_vl.runs.trained_on import content_hashes, noted_hashes, prepared_anew
from gpg_vl.runtime.files import write_whole
from gpg_vl.runtime.guard import leave_if_imported_by_a_worker
from gpg_vl.runtime.parallel import World
from gpg_vl.yaml_file import read_yaml


class RunFolder:
    """An open run folder, locked against a second process until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.evaluations = path / "eval"
        self.rollouts = path / "rollouts"
        self.profile = path / "profile"
        self.metrics = path / "metrics.jsonl"
        self._lock = -1

    @classmethod
    def open(
        cls, config: TrainConfig | SftConfig, *, resume: bool, world: World | None = None
    ) -> "RunFolder":
        """Create or reopen `config.out`; the first process does, the others see that it is there.

        Without `resume`, what a run left that ended before its first checkpoint is moved aside.

        Raises, on all processes, RunFolderError if it holds a run and `resume` is off, if another run uses
        it, if it cannot be written, or is not the same folder for all; ConfigurationError if the resumed run
        was started with other settings.
        """
        leave_if_imported_by_a_worker()
        folder, world = cls(Path(config.out)), world or World()
        world.together(lambda: folder._claim(config, resume) if world.main else None)
        world.together(lambda: None if world.main else folder._check_shared())
        return folder

    def _claim(self, config: TrainConfig | SftConfig, resume: bool) -> None:
        if not resume:
            check_unused(config.out)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = acquire(self.path)
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(f"cannot write to {config.out!r}: {error}") from error
        try:
            if not resume:
                self._free()
            self._check_same(config)
            write_whole(self.path / "config.yaml", to_yaml(config))
            # A set that is missing just now stays noted: it may come back with other rows.
            before = noted_hashes(self.path) if used(self.path) else {}
            noted = {**environment(), "data": before | content_hashes(config.data.train)}
            write_whole(self.path / ENVIRONMENT, json.dumps(noted, indent=2))
        except BaseException:
            self._release()
            raise

    def _free(self) -> None:
        """Make room where a run ended before its first checkpoint."""
        check_unused(str(self.path))  # again: nobody else can write here by now
        if used(self.path):
            print(f"note: {clear_dead_run(self.path)}", file=sys.stderr)

    def _check_shared(self) -> None:
        if not (self.path / LOCK).exists():
            raise RunFolderError(
                f"{str(self.path)!r} is not the same folder on every machine: --out must be on a shared disk"
            )

    def _check_same(self, config: TrainConfig | SftConfig) -> None:
        file = self.path / "config.yaml"
        if not file.is_file() or not used(self.path):
            return
        changed = changed_settings(read_yaml(file), config)
        if changed:
            raise ConfigurationError(
                f"{config.out!r} was started with other settings: {listed(changed)}. Resume with the old "
                "ones, or choose another --out and go on with --resume CHECKPOINT, where optim and run.steps "
                "may change, or start anew with --model.path CHECKPOINT/model"
            )
        if anew := prepared_anew(self.path, config.data.train):
            raise ConfigurationError(
                f"{config.out!r} was trained on other rows of {', '.join(map(repr, anew))}, prepared anew "
                "since. Prepare the old ones again, or start anew with --model.path CHECKPOINT/model"
            )
        newest = newest_checkpoint(self.checkpoints)
        if newest is not None and (step_of(newest) or 0) > config.run.steps:
            raise ConfigurationError(
                f"{config.out!r} is past run.steps {config.run.steps}: its newest checkpoint is {newest.name}"
            )

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._lock < 0:  # another process owns it
            return
        if kind is not None and not used(self.path):  # a run that failed while starting leaves nothing behind
            for name in WRITTEN_AT_START:
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()
        self._release()

    def _release(self) -> None:
        os.close(self._lock)
        self._lock = -1
