"""Work beside the device: worker processes read and encode the next questions, a thread scores answers."""

import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.errors import ConfigurationError, UserError
from gpg_vl.prompting.encode import PromptEncoder, Question
from gpg_vl.rollout.answering import Answered
from gpg_vl.runtime.guard import GUARD
from gpg_vl.runtime.parallel import World
from gpg_vl.runtime.shutdown import ignore_stop_signals, stop_signals_held
from gpg_vl.runtime.threads import SerialThread
from gpg_vl.scoring.scorer import Begun, GroupScores, Scorer

_BESIDE_A_GPU = 4
"""Workers by default; on a CPU they would take time from the model."""


class QuestionReader:
    """One process's questions in the sampler's order, read and encoded ahead by worker processes.

    The workers run from the first `take` until the reader is closed, as a context manager.
    """

    def __init__(
        self, data: PreparedDataset, encoder: PromptEncoder, rows: Iterator[int], workers: int
    ) -> None:
        """`rows` are those that `take` will be asked for; without workers they are not looked at."""
        self._data, self._encoder, self._rows, self._workers = data, encoder, rows, workers
        self._ahead: Any = None
        self._came = False

    def take(self, rows: Sequence[int]) -> list[Question]:
        """The next questions, which are these rows. Raises DataError as `PromptEncoder.encode` does."""
        if not self._workers:
            return self._encoder.questions([self._data[row] for row in rows])
        if self._ahead is None:
            self._ahead = self._start()
        return [self._next(row) for row in rows]

    def _next(self, row: int) -> Question:
        read, question = pickle.loads(self._read())
        if read != row:
            raise RuntimeError(f"row {row} is asked for, and row {read} was read ahead")
        if isinstance(question, UserError):
            raise question
        assert isinstance(question, Question)
        return question

    def _read(self) -> bytes:
        """The next question as bytes. Raises ConfigurationError if no worker came so far as to give one."""
        try:
            read: bytes = next(self._ahead)
        except RuntimeError as error:
            if self._came or "exited unexpectedly" not in str(error):
                raise
            raise ConfigurationError(
                f"data.workers {self._workers}: the workers ended before they gave a question. They import "
                f"the program's main file, so {GUARD}; else lower data.workers, 0 needs none"
            ) from error
        self._came = True
        return read

    def _start(self) -> Iterator[bytes]:
        # Plain bytes: tensors would go through /dev/shm, which containers keep small.
        loader = DataLoader(
            _Encoded(self._data, self._encoder),
            sampler=self._rows,
            batch_size=None,
            num_workers=self._workers,
            collate_fn=pickle.dumps,
            worker_init_fn=_keep_out_of_signals,
            multiprocessing_context="spawn",  # the trainer has threads and perhaps a GPU
            generator=torch.Generator(),  # the global one's state belongs to the run
        )
        with stop_signals_held():
            return iter(loader)

    def __enter__(self) -> "QuestionReader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead._shutdown_workers()  # else the traceback of what ended the run keeps them alive
            self._ahead = None


class _Encoded(Dataset[tuple[int, Question | UserError]]):
    """Rows with their questions, or with the user's mistake: raised, it would arrive as a traceback."""

    def __init__(self, data: PreparedDataset, encoder: PromptEncoder) -> None:
        self._data, self._encoder = data, encoder

    def __getitem__(self, row: int) -> tuple[int, Question | UserError]:
        try:
            (question,) = self._encoder.questions([self._data[row]])
        except UserError as mistake:
            return row, mistake
        return row, question


def _keep_out_of_signals(_: int) -> None:
    """SIGTERM stays blocked, as it was when the worker started: DataLoader ends workers by a message."""
    ignore_stop_signals()


def worker_count(workers: int | None) -> int:
    """As configured; None is a few of this process's share of the CPUs beside a GPU, else none."""
    if workers is not None:
        return workers
    share = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_BESIDE_A_GPU, max(1, share - 1)) if torch.cuda.is_available() else 0


def own_rows(sampler: Sampler, world: World, questions_per_round: int) -> Iterator[int]:
    """The rows that come to this process, without drawing them: each round is dealt out anew."""
    return (
        row
        for place, row in zip(count(), sampler.upcoming())
        if place % questions_per_round % world.size == world.rank
    )


class ScoringAhead:
    """Scores groups while others are still being sampled: rewards run in a thread, in their workers, or wait
    side by side."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._thread = SerialThread("rewards")
        self._begun: dict[int, Future[Begun]] = {}

    def submit(self, number: int, one: Answered) -> None:
        """Score a question's answers."""
        self._begun[number] = self._thread.submit(self._scorer.begin, [(one.sample, one.completions)])

    def results(self) -> list[GroupScores]:
        """Scores by number; raises what the rewards raised."""
        begun = [self._begun[number].result() for number in sorted(self._begun)]
        return [scores for one in begun for scores in one.finish()]

    def __enter__(self) -> "ScoringAhead":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What still runs is not waited for: a reward that hangs would keep the trainer from ending."""
        if kind is not None:
            for future in self._begun.values():
                if not future.cancel():
                    # At once, or when its rewards in the thread are through.
                    future.add_done_callback(_give_up)
        self._thread.close()


def _give_up(future: "Future[Begun]") -> None:
    if future.exception() is None:
        future.result().cancel()
