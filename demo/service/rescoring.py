"""Scoring recorded answers again, without the model that wrote them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gpg_vl.algorithm.advantages import VALID_SPREAD
from gpg_vl.errors import DataError
from gpg_vl.model.families import family_of
from gpg_vl.model.loading import read_config, read_processor
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt, parse_completion
from gpg_vl.scoring.scorer import GroupScores, Scorer
from gpg_vl.types import Box, Completion, Sample

from .records import Record
from .samples import PreparedSets


@dataclass(frozen=True)
class RunQuestions:
    """What a run's records leave out: its questions, and how its model was asked. Read when it is needed."""

    run: Path
    folders: Sequence[str] = ()
    """Further prepared folders."""

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's config.yaml; empty if there is none."""
        file = self.run / "config.yaml"
        return (yaml.safe_load(file.read_text()) or {}) if file.is_file() else {}

    @cached_property
    def root(self) -> Path:
        """Where the run's relative paths start: the folder it was trained in, as far as one can tell."""
        out, run = Path(self.settings.get("out", ".")), self.run.resolve()
        depth = len(out.parts)
        own = depth and not out.is_absolute() and run.parts[-depth:] == out.parts
        return run.parents[depth - 1] if own else Path()

    @cached_property
    def sets(self) -> PreparedSets:
        """The run's training sets and the further folders. Raises DataError if none is there."""
        named = [str(self.root / folder) for folder in self.settings.get("data", {}).get("train", [])]
        found = [folder for folder in (*named, *self.folders) if Path(folder).is_dir()]
        if not found:
            raise DataError(
                "the run's training data is not here, and the records hold no questions: pass its prepared "
                f"folder with --data (the run was trained on {', '.join(named) or 'unknown data'})"
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
        return Prompt.from_dict(self.settings.get("prompt", {}))

    @cached_property
    def _encoder(self) -> PromptEncoder:
        stored = sorted((self.run / "checkpoints").glob("*/model"))
        model = self.settings.get("model", {})
        path = str(stored[-1] if stored else self.root / model.get("path", ""))
        family = family_of(path, read_config(path, download=False))
        processor = read_processor(path, family, download=False)
        limits = {name: model[name] for name in ("min_pixels", "max_pixels")}
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

    def rescore(self, reward: str, records: Sequence[Record]) -> GroupScores:
        """Score a group's answers with another reward.

        Raises DataError if the question is not here, ConfigurationError if the reward needs an option, and
        RewardError if it fails.
        """
        sample = self.find(records[0]["prompt_id"])
        return Scorer({reward: 1.0}).score(sample, [self.completion(record, sample) for record in records])


def verdict_on(reward: str, scores: GroupScores) -> str:
    """What the other reward makes of the group, in a sentence."""
    if reward in scores.dropped:
        return f"{reward} cannot grade every answer of this question, so training would leave it out."
    values = scores.by_reward[reward]
    valid = max(values) - min(values) > VALID_SPREAD
    end = "the group would be valid" if valid else "all equal, so the group would be discarded"
    late = f" ({scores.timeouts[reward]} past the deadline)" if scores.timeouts.get(reward) else ""
    return f"{reward}: mean {sum(values) / len(values):.3g} over {len(values)} answers{late}; {end}."
