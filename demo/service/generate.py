"""Answers in the making: one queue for all visitors, streaming, stopping."""

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Literal

import torch

from gpg_vl.errors import ConfigurationError, DataError, GpgError
from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.model import Model
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample

from .models import Models
from .settings import DemoSettings

State = Literal["waiting", "loading", "writing", "done", "stopped", "failed"]
_FRAME = 0.12
"""Seconds between two looks at answers in the making: fast enough to read along."""


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

    def check(self, settings: DemoSettings) -> None:
        """Raise ConfigurationError for what the server does not allow: clients of the API send anything."""
        for name, most in (("samples", settings.max_samples), ("max_new_tokens", settings.max_new_tokens)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigurationError(f"{name} is 1 to {most} here, got {getattr(self, name)}")
        if not 0 <= self.temperature <= 2:
            raise ConfigurationError(f"the temperature is 0 (greedy) to 2, got {self.temperature}")
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
    rewards: object = None
    """The rewards that the model was trained with, as its checkpoint lists them; None for others."""
    error: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class _Stopped(Exception):
    """Raised within a generation that was asked to stop."""


class Generation:
    """One model's answers to one question, made on a thread of the queue."""

    def __init__(self, models: Models, path: str, ask: Ask) -> None:
        self.progress = Progress()  # replaced as a whole: readers on other threads need no lock
        self._models, self._path, self._ask = models, path, ask
        self._stop = threading.Event()
        self._start = self._shown = 0.0

    def stop(self, *, waiting: bool = False) -> None:
        """End it at the next token, and what was written stays; at once if it was `waiting` for its turn."""
        self._stop.set()
        if waiting:
            self._update(state="stopped")

    def run(self) -> None:
        """Load the model if need be, and answer. Mistakes end up in `progress.error`; a bug raises."""
        try:
            if self._stop.is_set():
                raise _Stopped
            self._update(state="loading" if not self._models.loaded(self._path) else "writing")
            self._answer(self._models.get(self._path))
        except _Stopped:
            self._update(state="stopped")
        except (GpgError, torch.OutOfMemoryError) as error:
            self._update(state="failed", error=str(error))
        except BaseException:
            self._update(state="failed", error="an error in the program; its log has the traceback")
            raise

    def _answer(self, model: Model) -> None:
        ask = self._ask
        answerer = model.answerer(ask.benchmark)
        prompt = answerer.encoder.text(ask.sample)
        room = model.frontend.context - answerer.encoder.prompt_length(ask.sample)
        if room < 1:
            raise DataError(f"the prompt fills the model's context of {model.frontend.context} tokens")
        sampling = Sampling(min(ask.max_new_tokens, room), ask.temperature, stop=model.stop)
        self._start = time.perf_counter()
        self._update(state="writing", prompt=prompt, think_opened=prompt.rstrip().endswith("<think>"))

        def watch(token_ids: Sequence[Sequence[int]]) -> None:
            self._watch(model, token_ids)

        [answered] = answerer.answer([ask.sample], ask.samples, sampling, step=ask.seed, watch=watch)
        self._update(
            state="done",
            texts=tuple(answer.text for answer in answered.answers),
            tokens=tuple(len(answer.token_ids) for answer in answered.answers),
            seconds=time.perf_counter() - self._start,
            answered=answered,
            rewards=model.card.get("rewards"),
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


class Generations:
    """The queue that all visitors share: first come, first served, a few at a time."""

    def __init__(self, models: Models, concurrency: int) -> None:
        self._models = models
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="generation")
        self._lock = threading.Lock()
        self._open: list[tuple[str, Generation, Future[None]]] = []  # in the order they came

    def follow(self, session: str, paths: Sequence[str], ask: Ask) -> Generator[list[Progress], None, None]:
        """Ask several models at once, and yield how far each is, the last time when all are over.

        Closing the iterator stops them: a visitor who leaves frees the place.
        """
        own = [self._submit(session, path, ask) for path in paths]
        futures = [future for _, future in own]
        try:
            waiting = set(futures)
            while waiting:
                waiting = {one for one in wait(waiting, timeout=_FRAME).not_done if not one.cancelled()}
                yield [self._seen(generation) for generation, _ in own]
            for future in futures:
                if not future.cancelled():
                    future.result()  # a bug raises here
        finally:
            for generation, future in own:
                generation.stop(waiting=future.cancel())
            with self._lock:
                self._open = [entry for entry in self._open if entry[2] not in futures]

    def stop(self, session: str) -> None:
        """End whatever a visitor has running or waiting."""
        with self._lock:
            for owner, generation, future in self._open:
                if owner == session:
                    generation.stop(waiting=future.cancel())

    def close(self) -> None:
        """End everything, so that the program can."""
        with self._lock:
            for _, generation, future in self._open:
                generation.stop(waiting=future.cancel())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, session: str, path: str, ask: Ask) -> tuple[Generation, Future[None]]:
        generation = Generation(self._models, path, ask)
        with self._lock:
            future = self._pool.submit(generation.run)
            self._open.append((session, generation, future))
        return generation, future

    def _seen(self, generation: Generation) -> Progress:
        """Its progress, with its place in the queue while it waits."""
        progress = generation.progress
        if progress.state != "waiting":
            return progress
        with self._lock:
            waiting = [one for _, one, _ in self._open if one.progress.state == "waiting"]
        return replace(progress, ahead=waiting.index(generation) if generation in waiting else 0)
