"""From what stands in the fields to a question, and on to both models' panes. No Gradio here."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from gpg_vl.errors import ConfigurationError, unknown
from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED, Benchmark
from gpg_vl.prompting.prompts import letter
from gpg_vl.types import AnswerType, Sample

from .clients import Client
from .generate import Ask, Generations, Progress
from .layers import Layer, voted, with_gold
from .models import Kind
from .samples import Place, PreparedSets
from .settings import DemoSettings
from .uploads import Upload
from .verdicts import Verdict, judge

ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)
TYPED = Sample("typed", "typed", "", "", "choice")
"""What a question that comes from no prepared set starts from."""


@dataclass(frozen=True)
class Fields:
    """What stands in the fields of a page, or came through the API: nothing of it is checked yet."""

    image: Any = None
    """The upload as Gradio describes it, with its `path`; None for none."""
    question: Any = ""
    choices: Any = ""
    """One a line."""
    answer_type: Any = "choice"
    gold: Any = ""
    """Gold answer; empty where nobody knows it."""
    samples: Any = 1
    temperature: Any = 0.0
    max_new_tokens: Any = 256
    seed: Any = 0

    def text(self, name: str) -> str:
        """A field as text without blanks around it; nothing for None."""
        return str(getattr(self, name) or "").strip()

    def number(self, name: str) -> float:
        """A field as a number. Raises ConfigurationError for anything else."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigurationError(f"{name} is a number, got {value!r}")
        return value


@dataclass(frozen=True)
class Pane:
    """One model's part of an outcome."""

    progress: Progress
    verdicts: Sequence[Verdict] = ()
    """One an answer; none before it is done."""


@dataclass(frozen=True)
class Outcome:
    """What a page shows at one moment."""

    sample: Sample
    panes: Mapping[Kind, Pane] = field(default_factory=dict)

    def layers(self) -> dict[str, Layer]:
        """Boxes to draw by whose they are: those of every answer of a model that is done, and gold's."""
        done = {kind: (pane, pane.progress.answered) for kind, pane in self.panes.items()}
        boxes = {
            kind: voted([completion.boxes for completion in one.completions], pane.verdicts)
            for kind, (pane, one) in done.items()
            if one
        }
        return with_gold(self.sample, boxes)


class Asking:
    """Asks both models what the fields say."""

    def __init__(self, settings: DemoSettings, sets: PreparedSets, generations: Generations) -> None:
        self.settings, self.sets, self.generations = settings, sets, generations
        paths: dict[Kind, str | None] = {"base": settings.base, "trained": settings.trained}
        self.paths = {kind: path for kind, path in paths.items() if path is not None}

    def outcomes(
        self, fields: Fields, place: Place | None, client: Client, *, mathematics: bool = False
    ) -> Generator[Outcome, None, None]:
        """What to show from moment to moment; the last one has the verdicts.

        Raises a UserError for fields that cannot be asked. Closing the iterator stops the models.
        """
        ask = self.ask(fields, place, mathematics=mathematics)
        progresses: list[Progress] = []
        follow = self.generations.follow(client, list(self.paths.values()), ask)
        try:
            for progresses in follow:
                yield Outcome(ask.sample, self._panes(progresses))
        finally:
            follow.close()
        yield Outcome(_asked(ask, progresses), self._judged(progresses, ask.benchmark))

    def ask(self, fields: Fields, place: Place | None, *, mathematics: bool = False) -> Ask:
        """The question with its protocol. Raises a UserError for what cannot be asked."""
        benchmark = BENCHMARKS["math"] if mathematics else PREPARED
        if place is not None:
            benchmark = self.sets.protocol(place)
        ask = Ask(
            self._sample(fields, place),
            benchmark,
            int(fields.number("samples")),
            fields.number("temperature"),
            int(fields.number("max_new_tokens")),
            int(fields.number("seed")),
            upload=self._upload(fields, place),
        )
        ask.check(self.settings)
        return ask

    def _sample(self, fields: Fields, place: Place | None) -> Sample:
        """The question as the fields have it; images and what else its row holds are the prepared set's."""
        if fields.answer_type not in ANSWER_TYPES:
            raise ConfigurationError(unknown("type of answer", str(fields.answer_type), ANSWER_TYPES))
        origin = TYPED if place is None else self.sets.sample(place)
        choices = tuple(line.strip() for line in fields.text("choices").splitlines() if line.strip())
        return replace(
            origin,
            question=fields.text("question"),
            choices=choices,
            answer=_gold(fields.text("gold"), choices),
            answer_type=fields.answer_type,
        )

    def _upload(self, fields: Fields, place: Place | None) -> Upload | None:
        """The visitor's own image; a prepared set brings its own."""
        if place is not None or fields.image is None:
            return None
        return Upload(fields.image, self.settings.upload_pixels)

    def _panes(self, progresses: Sequence[Progress]) -> dict[Kind, Pane]:
        return {kind: Pane(one) for kind, one in zip(self.paths, progresses, strict=True)}

    def _judged(self, progresses: Sequence[Progress], benchmark: Benchmark) -> dict[Kind, Pane]:
        """With verdicts, by the rewards of the trained model where it has some: both by the same."""
        tables = [one.rewards for one in reversed(progresses) if one.rewards]
        rewards: Any = tables[0] if tables else None
        return {
            kind: Pane(one, judge(one.answered, benchmark, rewards) if one.answered else ())
            for kind, one in zip(self.paths, progresses, strict=True)
        }


def _asked(ask: Ask, progresses: Sequence[Progress]) -> Sample:
    """The question as the models had it, with the image that was decoded for them."""
    return next((one.answered.sample for one in progresses if one.answered), ask.sample)


def _gold(text: str, choices: Sequence[str]) -> str:
    """The gold answer as samples have it: `b`, `B` and the choice's own text become "(B)"."""
    gold = text.strip()
    for place, choice in enumerate(choices):
        name = letter(place)
        if gold.casefold() in (name.casefold(), name.strip("()").casefold(), choice.casefold()):
            return name
    return gold


def stored_place(sets: PreparedSets, item: Mapping[str, Any]) -> Place | None:
    """Where the question of an evaluation's item stands; None if its set was not given, or is another."""
    place = sets.find(item["id"])
    if place is not None and sets.sample(place).question != item["question"]:
        return None
    return place
