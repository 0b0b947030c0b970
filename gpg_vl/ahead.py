"""Work beside the device: worker processes read and encode the next questions, a thread scores answers."""

import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gpg_vl.answering import Answered, Question
from gpg_vl.data import PreparedDataset, Sampler
from gpg_vl.encode import PromptEncoder
from gpg_vl.parallel import World
from gpg_vl.scoring import GroupScores, Scorer
from gpg_vl.shutdown import ignore_stop_signals, stop_signals_held

_BESIDE_A_GPU = 4
"""Workers by default; on a CPU they would take time from the model."""


class QuestionReader:
    """One process's questions in the sampler's order, read and encoded ahead by worker processes."""

    def __init__(
        self, data: PreparedDataset, encoder: PromptEncoder, rows: Iterator[int], workers: int
    ) -> None:
        """`rows` are those that `take` will be asked for; without workers they are not looked at."""
        self._data, self._encoder = data, encoder
        self._ahead: Iterator[bytes] | None = None
        if workers:
            # Plain bytes: tensors would go through /dev/shm, which containers keep small.
            loader = DataLoader(
                _Encoded(data, encoder),
                sampler=rows,
                batch_size=None,
                num_workers=workers,
                collate_fn=pickle.dumps,
                worker_init_fn=_keep_out_of_signals,
                multiprocessing_context="spawn",  # the trainer has threads and perhaps a GPU
            )
            with stop_signals_held():
                self._ahead = iter(loader)

    def take(self, rows: Sequence[int]) -> list[Question]:
        """The next questions, which are these rows."""
        if self._ahead is None:
            samples = [self._data[row] for row in rows]
            prompts = self._encoder.encode(samples)
            return [Question(*one) for one in zip(samples, prompts, strict=True)]
        read = [pickle.loads(next(self._ahead)) for _ in rows]
        assert [row for row, _ in read] == list(rows), "read ahead in another order"
        return [question for _, question in read]

    def close(self) -> None:
        """End the workers."""
        self._ahead = None


class _Encoded(Dataset[tuple[int, Question]]):
    """Rows with their questions."""

    def __init__(self, data: PreparedDataset, encoder: PromptEncoder) -> None:
        self._data, self._encoder = data, encoder

    def __getitem__(self, row: int) -> tuple[int, Question]:
        sample = self._data[row]
        (prompt,) = self._encoder.encode([sample])
        return row, Question(sample, prompt)


def _keep_out_of_signals(_: int) -> None:
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
    """Scores groups in a thread while others are still being sampled."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")
        self._running: dict[int, Future[list[GroupScores]]] = {}

    def submit(self, number: int, one: Answered) -> None:
        """Score a question's answers."""
        score = partial(self._scorer.score_groups, [(one.sample, one.completions)])
        self._running[number] = self._thread.submit(score)

    def results(self) -> list[GroupScores]:
        """Scores by number; raises what the rewards raised."""
        return [self._running[number].result()[0] for number in sorted(self._running)]

    def __enter__(self) -> "ScoringAhead":
        return self

    def __exit__(self, *_: Any) -> None:
        self._thread.shutdown(cancel_futures=True)
