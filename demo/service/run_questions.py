"""What a run's records leave out: its questions, and how its model was asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.model.families import family_of
from gpg_vl.model.loading import read_config, read_processor
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt, parse_completion
from gpg_vl.types import Box, Completion, Sample
from gpg_vl.yaml_file import read_yaml

from .records import Record
from .samples import PreparedSets

_CONFIG = "config.yaml"


@dataclass(frozen=True)
class RunQuestions:
    """A run's questions and settings, read when they are needed.

    Every reader raises DataError or ConfigurationError for a broken config.yaml; none for an absent one.
    """

    run: Path
    folders: Sequence[str] = ()
    """Further prepared folders."""

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's config.yaml; empty if there is none."""
        file = self.run / _CONFIG
        return read_yaml(file) if file.is_file() else {}

    def _table(self, name: str) -> Mapping[str, Any]:
        """A section of the settings; empty if it is left out."""
        value = self.settings.get(name, {})
        if not isinstance(value, Mapping):
            raise DataError(f"{_CONFIG} of the run: {name} must be a table, got {value!r}")
        return value

    @cached_property
    def root(self) -> Path:
        """Where the run's relative paths start: the folder it was trained in, as far as one can tell."""
        out, run = Path(str(self.settings.get("out", "."))), self.run.resolve()
        depth = len(out.parts)
        own = depth and not out.is_absolute() and run.parts[-depth:] == out.parts
        return run.parents[depth - 1] if own else Path()

    @cached_property
    def sets(self) -> PreparedSets:
        """The run's training sets and the further folders. Raises DataError if none is there."""
        train = self._table("data").get("train", [])
        if not isinstance(train, list):
            raise DataError(f"{_CONFIG} of the run: data.train must be a list of folders, got {train!r}")
        named = [str(self.root / str(folder)) for folder in train]
        found = [folder for folder in (*named, *self.folders) if Path(folder).is_dir()]
        if not found:
            trained_on = ", ".join(map(str, train)) or "unknown data"
            raise DataError(
                "the run's training data is not here, and the records hold no questions: pass its prepared "
                f"folder with --data (the run was trained on {trained_on})"
            )
        return PreparedSets(found)

    def find(self, id: str) -> Sample:
        """The question of an id. Raises DataError if it is not in the data, or the data not here."""
        place = self.sets.find(id)
        if place is None:
            raise DataError(
                f"question {id!r} is in none of the sets here: pass the prepared folder that the run was "
                "trained on with --data"
            )
        return self.sets.sample(place)

    def to_image(self, sample: Sample) -> Callable[[Box], Box] | None:
        """Takes boxes of the model's answers to pixels; None where none are asked for.

        Raises ModelError if the processor, which says how the model saw the image, is not here.
        """
        if sample.answer_type != "boxes" or not sample.images:
            return None
        return self._encoder.to_image(sample)

    @cached_property
    def prompt(self) -> Prompt:
        """How the run's model was asked."""
        try:
            return Prompt.from_dict(self._table("prompt"))
        except TypeError as error:  # a key that no prompt has
            raise DataError(f"{_CONFIG} of the run: prompt: {error}") from error

    @cached_property
    def _encoder(self) -> PromptEncoder:
        stored = sorted((self.run / "checkpoints").glob("*/model"))
        model = self._table("model")
        path = str(stored[-1] if stored else self.root / str(model.get("path", "")))
        family = family_of(path, read_config(path, download=False))
        processor = read_processor(path, family, download=False)
        limits: dict[str, Any] = {name: model.get(name) for name in ("min_pixels", "max_pixels")}
        if wrong := [name for name, value in limits.items() if not isinstance(value, int)]:
            raise DataError(f"{_CONFIG} of the run: model.{wrong[0]} must be a number of pixels")
        return PromptEncoder(processor, self.prompt, family=family, **limits)

    def completion(self, record: Record, sample: Sample) -> Completion:
        """A recorded answer as rewards see it."""
        return parse_completion(
            record["text"],
            think_opened=self.prompt.opens_think,
            token_count=record["token_count"],
            finish_reason=record["finish_reason"],
            to_image=self.to_image(sample),
        )


def questions_of(run: Path, folders: Sequence[str]) -> RunQuestions:
    """A run's questions as its folder is now; what was opened before is used again while it is the same."""
    config = run / _CONFIG
    stat = config.stat() if config.is_file() else None
    changed = (stat.st_mtime_ns, stat.st_size) if stat else ()
    return _opened(run, tuple(folders), changed, any((run / "checkpoints").glob("*/model")))


@lru_cache(maxsize=4)
def _opened(run: Path, folders: tuple[str, ...], *_changed: Any) -> RunQuestions:
    return RunQuestions(run, folders)
