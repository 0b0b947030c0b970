"""Answers in the making: visitors take turns, answers stream and stop."""

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import torch

from gpg_vl.errors import ConfigurationError, DataError, GpgError
from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.model import Model
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample

from .clients import Client
from .models import Models
from .settings import DemoSettings
from .turns import Limits, Turns
from .uploads import Upload

State = Literal["waiting", "loading", "writing", "done", "stopped", "failed"]
_COLDEST = 0.01
"""Below, logits divided by the temperature leave the range of numbers."""
_FRAME = 0.12
"""Seconds between two looks at answers in the making: fast enough to read along."""
_PER_PIXEL = 2e-8
"""Seconds that a model's part takes for a pixel of an upload, decoding included."""
_PULSE = 1.0
"""Seconds after which progress is told though nothing is new: thus it shows whether anybody reads."""


@dataclass(frozen=True)
class Ask:
    """A question and how its answers are drawn."""

    sample: Sample
    benchmark: Benchmark
    """Its protocol: the prompt of models that bring none, and the grader."""
    samples: int = 1
    temperature: float = 0.0
    """0 is greedy."""
    max_new_tokens: int = 256
    seed: int = 0
    upload: Upload | None = None
    """The image, if it is the visitor's own."""

    @property
    def cost(self) -> float:
        """Seconds of a model's part that are known before it begins: what an upload takes."""
        return self.upload.pixels * _PER_PIXEL if self.upload else 0.0

    def whole(self) -> Sample:
        """The sample with all its images. Raises DataError for an upload that cannot be decoded."""
        if self.upload is None:
            return self.sample
        return replace(self.sample, images=(self.upload.image(),))

    def check(self, settings: DemoSettings) -> None:
        """Raise ConfigurationError for what the server does not allow: clients of the API send anything."""
        for name, most in (("samples", settings.max_samples), ("max_new_tokens", settings.max_new_tokens)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigurationError(f"{name} is 1 to {most} here, got {getattr(self, name)}")
        if self.temperature != 0 and not _COLDEST <= self.temperature <= 2:
            raise ConfigurationError(
                f"the temperature is 0 (greedy), or {_COLDEST} to 2, got {self.temperature}"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ConfigurationError(
                f"{self.samples} greedy answers would be the same; raise the temperature"
            )
        if not self.sample.question.strip():
            raise ConfigurationError("the question is empty")


@dataclass(frozen=True)
class Progress:
    """How far one model's answers are."""

    state: State = "waiting"
    ahead: int = 0
    """Generations before this one in the queue."""
    texts: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    """Sampled tokens of each."""
    seconds: float = 0.0
    """Since the model began to read."""
    prompt: str = ""
    """As it was sent; empty before that."""
    think_opened: bool = False
    answered: Answered | None = None
    """Once it is done."""
    error: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class _Stopped(Exception):
    """Raised within a generation that was asked to stop."""


class Generation:
    """One model's answers to one question, made on a thread once it is its turn."""

    def __init__(self, models: Models, path: str, ask: Ask, client: Client) -> None:
        self.client, self.cost = client, ask.cost
        self.progress = Progress()  # replaced as a whole: readers on other threads need no lock
        self.over = threading.Event()
        self.bug: BaseException | None = None
        self._models, self._path, self._ask = models, path, ask
        self._stop = threading.Event()
        self._start = self._shown = 0.0

    def stop(self, *, waiting: bool = False) -> None:
        """End it at the next token, and what was written stays; at once if it was `waiting` for its turn."""
        self._stop.set()
        if waiting:
            self._update(state="stopped")
            self.over.set()

    def run(self) -> None:
        """Load the model if need be, and answer. Mistakes end up in `progress.error`, a bug in `bug`."""
        try:
            if self._stop.is_set():
                raise _Stopped
            self._update(state="loading" if not self._models.loaded(self._path) else "writing")
            self._answer(self._models.get(self._path))
        except _Stopped:
            self._update(state="stopped")
        except (GpgError, torch.OutOfMemoryError) as error:
            self._update(state="failed", error=str(error))
        except BaseException as error:  # whoever follows raises it
            self.bug = error
            self._update(state="failed", error="an error in the program; its log has the traceback")
        finally:
            self.over.set()

    def _answer(self, model: Model) -> None:
        ask, sample = self._ask, self._ask.whole()
        answerer = model.answerer(ask.benchmark)
        prompt = answerer.encoder.text(sample)
        room = model.frontend.context - answerer.encoder.prompt_length(sample)
        if room < 1:
            raise DataError(f"the prompt fills the model's context of {model.frontend.context} tokens")
        sampling = Sampling(min(ask.max_new_tokens, room), ask.temperature, stop=model.stop)
        self._start = time.perf_counter()
        self._update(state="writing", prompt=prompt, think_opened=prompt.rstrip().endswith("<think>"))

        def watch(token_ids: Sequence[Sequence[int]]) -> None:
            self._watch(model, token_ids)

        [answered] = answerer.answer([sample], ask.samples, sampling, step=ask.seed, watch=watch)
        self._update(
            state="done",
            texts=tuple(answer.text for answer in answered.answers),
            tokens=tuple(len(answer.token_ids) for answer in answered.answers),
            seconds=time.perf_counter() - self._start,
            answered=answered,
        )

    def _watch(self, model: Model, token_ids: Sequence[Sequence[int]]) -> None:
        now = time.perf_counter()
        stopped = self._stop.is_set()
        if stopped or now - self._shown >= _FRAME:
            self._shown = now
            texts = model.frontend.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
            self._update(texts=tuple(texts), tokens=tuple(map(len, token_ids)), seconds=now - self._start)
        if stopped:
            raise _Stopped

    def _update(self, **changes: object) -> None:
        self.progress = replace(self.progress, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Question:
    """What a client has open."""

    client: Client
    generations: list[Generation]


class Generations:
    """Answers for all visitors: a few at the same time, in the order of `Turns`."""

    def __init__(
        self, models: Models, concurrency: int, max_waiting: int = 64, max_questions: int = 2
    ) -> None:
        self._models = models
        self._limits = Limits.sharing(max_waiting, max_questions)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="generation")
        self._lock = threading.Lock()
        self._turns: Turns[Generation] = Turns()
        self._open: list[_Question] = []

    def follow(self, client: Client, paths: Sequence[str], ask: Ask) -> Generator[list[Progress], None, None]:
        """Ask several models at once, and yield how far each is, the last time when all are over.

        Raises BusyError if the client has too much open. Closing the iterator stops the models: a visitor
        who leaves frees the place.
        """
        question = self._submit(client, paths, ask)
        try:
            yield from self._moments(question.generations)
            for generation in question.generations:
                if generation.bug is not None:
                    raise generation.bug
        finally:
            with self._lock:
                self._stop(question)
                self._open.remove(question)

    def stop(self, session: str) -> None:
        """End whatever a visitor has running or waiting."""
        with self._lock:
            for question in self._open:
                if question.client.session == session:
                    self._stop(question)

    def close(self) -> None:
        """End everything, so that the program can."""
        with self._lock:
            for question in self._open:
                self._stop(question)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, client: Client, paths: Sequence[str], ask: Ask) -> _Question:
        question = _Question(client, [Generation(self._models, path, ask, client) for path in paths])
        with self._lock:
            self._limits.admit(client, [other.client for other in self._open])
            for _ in paths:  # a thread for each part of a question, whosever turn it then is
                self._pool.submit(self._take_turn)
            self._turns.add(client, question.generations)
            self._turns.charge(client, ask.cost * len(paths))
            self._open.append(question)
        return question

    def _take_turn(self) -> None:
        with self._lock:
            generation = self._turns.take()
        if generation is None:  # it was stopped meanwhile
            return
        start = time.perf_counter()
        generation.run()
        with self._lock:
            self._turns.charge(generation.client, time.perf_counter() - start - generation.cost)

    def _stop(self, question: _Question) -> None:
        for generation in question.generations:
            generation.stop(waiting=self._turns.remove(generation))

    def _moments(self, generations: Sequence[Generation]) -> Generator[list[Progress], None, None]:
        """Their progress whenever it has changed, and at each pulse."""
        shown: list[tuple[Progress, int]] = []
        told = 0.0
        while True:
            over = all(one.over.is_set() for one in generations)  # looked at first: none is missed
            seen = self._seen(generations)
            if _differ(seen, shown) or time.monotonic() - told >= _PULSE:
                yield [replace(progress, ahead=ahead) if ahead else progress for progress, ahead in seen]
                shown, told = seen, time.monotonic()
            if over:
                return
            _wait_a_frame(generations)

    def _seen(self, generations: Sequence[Generation]) -> list[tuple[Progress, int]]:
        """How far each is, and how many are before it."""
        with self._lock:
            return [(generation.progress, self._turns.before(generation)) for generation in generations]


def _differ(seen: Sequence[tuple[Progress, int]], shown: Sequence[tuple[Progress, int]]) -> bool:
    """Whether a page would look otherwise; progress is replaced whenever it changes."""
    if len(seen) != len(shown):
        return True
    return any(one is not old or ahead != was for (one, ahead), (old, was) in zip(seen, shown, strict=True))


def _wait_a_frame(generations: Sequence[Generation]) -> None:
    """A frame long, or until the first that is not over is."""
    for generation in generations:
        if not generation.over.is_set():
            generation.over.wait(_FRAME)
            return
