"""Evaluation of a policy on prepared data, item by item."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.environment import environment
from gpg_vl.evaluation.benchmarks import PREPARED, Benchmark
from gpg_vl.evaluation.figures import summarize
from gpg_vl.evaluation.grading import grade
from gpg_vl.evaluation.partial import PartialFile
from gpg_vl.rollout.answering import Answerer
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.runs.files import Item
from gpg_vl.runtime.files import sealed, write_whole
from gpg_vl.scoring.counters import summed, taken
from gpg_vl.scoring.scorer import Scorer

_CHUNK = 128  # questions whose images are in memory at a time
_TOKENS = 262_144
"""Tokens that a chunk's answers may take: long answers are saved often, and spread over processes."""


def evaluate(
    answerer: Answerer,
    data: PreparedDataset,
    sampling: Sampling,
    *,
    benchmark: Benchmark = PREPARED,
    samples: int = 1,
    scorer: Scorer | None = None,
    partial: PartialFile | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Answer every question `samples` times and grade it by the benchmark's protocol, and by a run's own
    rewards where `scorer` has them.

    All processes of a launch share the questions, and each returns the whole: totals and per-task figures
    with 95 % intervals, the chance level where all questions are multiple-choice, what rewards counted, and
    every item in the data's order. The first one keeps what is answered in `partial`. `progress` is called
    with the questions done so far; what it raises ends the evaluation.
    """
    start = time.monotonic()
    work = _Work(answerer, data, sampling, benchmark, samples, scorer)
    items = work.answer_all(partial, progress)
    return {
        "benchmark": benchmark.name,
        "data": list(data.folders),
        "left_out": data.left_out,
        "prompt": answerer.encoder.prompt.to_dict(),
        "sampling": asdict(sampling),
        "samples": samples,
        "pixels": [answerer.encoder.min_pixels, answerer.encoder.max_pixels],
        "seed": answerer.engine.seed,
        **summarize(items, benchmark),
        **_counted(),
        "items": items,
        "seconds": time.monotonic() - start,
        "environment": environment(),
    }


@dataclass(frozen=True)
class _Work:
    """What is asked of whom, and how."""

    answerer: Answerer
    data: PreparedDataset
    sampling: Sampling
    benchmark: Benchmark
    samples: int
    scorer: Scorer | None

    def answer_all(self, partial: PartialFile | None, progress: Callable[[int], None]) -> list[Item]:
        """Every item, in the data's order.

        Questions go in chunks that depend neither on the number of processes nor on what is answered
        already: a chunk is answered whole or again, so rounding is the same however it came about.
        """
        state = PartialState()
        done = _from_first(partial.items if partial else {}, state)
        pending = [chunk for chunk in self._chunks() if not done.keys() >= set(chunk)]
        progress(len(done))
        for start in range(0, len(pending), state.num_processes):
            mine = pending[start + state.process_index :][:1]
            # Engines elsewhere are asked by all processes equally often, if only for nothing.
            own = self._answer(mine[0] if mine else []) if mine or not self.answerer.engine.own else []
            new = dict(gather_object(own) if state.num_processes > 1 else own)
            if partial and state.is_main_process:
                partial.append(new)
            done |= new
            progress(len(done))
        return [done[row] for row in range(len(self.data))]

    def _chunks(self) -> list[list[int]]:
        """Row numbers of questions of similar length, as many as are decoded together; the longest first,
        so that running out of memory shows at once."""
        lengths = self.data.lengths(self.answerer.encoder.prompt_length)
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        size = chunk_size(self.answerer.engine.max_concurrent, self.samples, self.sampling.max_new_tokens)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _answer(self, rows: Sequence[int]) -> list[tuple[int, Item]]:
        """Items with their row numbers."""
        questions = [self.data[row] for row in rows]
        answered = self.answerer.answer(questions, self.samples, self.sampling)
        texts = [self.answerer.encoder.text(question) for question in questions]
        template = self.answerer.encoder.prompt.template
        items = grade(answered, self.benchmark, template=template, scorer=self.scorer)
        return [
            (row, {**item, "row": row, "prompt": text})
            for row, text, item in zip(rows, texts, items, strict=True)
        ]


def chunk_size(max_concurrent: int, samples: int, max_new_tokens: int) -> int:
    """Questions that are answered, saved and handed to a process together."""
    return max(1, min(_CHUNK, max_concurrent // samples, _TOKENS // (samples * max_new_tokens)))


def _counted() -> dict[str, Any]:
    """`counts` of what the rewards of all processes counted since the last call; nothing if they did not."""
    own = [taken()]
    counts = summed(gather_object(own) if PartialState().num_processes > 1 else own)
    return {"counts": counts} if counts else {}


def _from_first(items: Mapping[int, Item], state: PartialState) -> dict[int, Item]:
    """What the first process knows."""
    holder = [dict(items)]
    if state.num_processes > 1:
        broadcast_object_list(holder)
    return holder[0]


def write_evaluation(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Write as JSON with a seal, whole or not at all. Raises WriteError."""
    write_whole(path, json.dumps(sealed(evaluation), indent=1, ensure_ascii=False), errors="backslashreplace")
