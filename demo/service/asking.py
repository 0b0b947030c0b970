"""From what stands in the fields to a question, and on to both models' panes. No Gradio here."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from gpg_vl.errors import ConfigurationError, unknown
from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED
from gpg_vl.types import AnswerType, Sample

from .clients import Client
from .generate import Ask, Generations, Progress
from .gold import read_gold
from .judging import Judgement, Judges
from .layers import Layer, voted, with_gold
from .models import Kind
from .rewards import read_rewards
from .samples import Place, PreparedSets
from .settings import DemoSettings
from .uploads import Upload
from .verdicts import Question, Verdict, steps

ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)
TYPED = Sample("typed", "typed", "", "", "choice")
"""What a question that comes from no prepared set starts from."""
_LOOK = 0.25
"""Seconds between two looks at verdicts in the making."""


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
    """One an answer; none before it is done, and only the parsed answers while it is scored."""
    scoring: bool = False
    """Whether more of the verdicts is to come."""


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
    """Asks both models what the fields say, and has their answers judged."""

    def __init__(
        self,
        settings: DemoSettings,
        sets: PreparedSets,
        generations: Generations,
        judges: Judges | None = None,
    ) -> None:
        """Raises a UserError for a reward of the settings that cannot be had."""
        self.settings, self.sets, self.generations = settings, sets, generations
        self.judges = judges or Judges(settings.scoring_seconds)
        paths: dict[Kind, str | None] = {"base": settings.base, "trained": settings.trained}
        self.paths = {kind: path for kind, path in paths.items() if path is not None}
        self.rewards = read_rewards([*reversed(self.paths.values())], settings.reward)
        """Both models' answers are scored by those of the trained one, where it has some."""

    def outcomes(
        self, fields: Fields, place: Place | None, client: Client, *, mathematics: bool = False
    ) -> Generator[Outcome, None, None]:
        """What to show from moment to moment; each model's verdicts come as soon as they are known.

        Raises a UserError for fields that cannot be asked. Closing the iterator stops the models, and the
        scoring.
        """
        ask = self.ask(fields, place, mathematics=mathematics)
        self.judges.warm()
        progresses: list[Progress] = []
        judged: dict[Kind, Judgement] = {}
        follow = self.generations.follow(client, list(self.paths.values()), ask)
        try:
            for progresses in follow:
                self._judge(client, ask, progresses, judged)
                yield self._outcome(ask, progresses, judged)
            while unfinished := [one for one in judged.values() if not one.over]:
                yield self._outcome(ask, progresses, judged)
                unfinished[0].wait(_LOOK)
            yield self._outcome(ask, progresses, judged)  # what became known since the last look
        finally:
            follow.close()
            for judgement in judged.values():
                judgement.cancel()

    def stop(self, session: str) -> None:
        """End whatever a visitor has running or waiting."""
        self.generations.stop(session)
        self.judges.stop(session)

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
            answer=read_gold(fields.text("gold"), choices),
            answer_type=fields.answer_type,
        )

    def _upload(self, fields: Fields, place: Place | None) -> Upload | None:
        """The visitor's own image; a prepared set brings its own."""
        if place is not None or fields.image is None:
            return None
        return Upload(fields.image, self.settings.upload_pixels)

    def _judge(
        self, client: Client, ask: Ask, progresses: Sequence[Progress], judged: dict[Kind, Judgement]
    ) -> None:
        """Begin to judge the answers that have become complete."""
        for kind, one in zip(self.paths, progresses, strict=True):
            if one.answered is not None and kind not in judged:
                question = Question(one.answered.sample, one.answered.completions, ask.benchmark)
                judged[kind] = self.judges.judge(client, question, steps(question, self.rewards))

    def _outcome(self, ask: Ask, progresses: Sequence[Progress], judged: Mapping[Kind, Judgement]) -> Outcome:
        pairs = zip(self.paths, progresses, strict=True)
        return Outcome(_asked(ask, progresses), {kind: _pane(one, judged.get(kind)) for kind, one in pairs})


def _asked(ask: Ask, progresses: Sequence[Progress]) -> Sample:
    """The question as the models had it, with the image that was decoded for them."""
    return next((one.answered.sample for one in progresses if one.answered), ask.sample)


def _pane(progress: Progress, judgement: Judgement | None) -> Pane:
    if judgement is None:
        return Pane(progress)
    scoring = not judgement.over  # read first: the verdicts may become final in between
    return Pane(progress, judgement.verdicts, scoring)
