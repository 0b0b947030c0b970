"""What a run leaves behind in its folder: metrics and rollout records."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from gpg_vl.algorithm.collect import Collection
from gpg_vl.runs.files import step_of
from gpg_vl.runtime.files import append, complete_lines, replacing, write_whole


class MetricsFile:
    """`metrics.jsonl`: one object a step. Reopened at `step`, it drops what a killed run wrote after it."""

    def __init__(self, path: Path, step: int) -> None:
        """Raises DataError for a line that is no step, WriteError if the file cannot be written."""
        kept = [
            line for n, line in enumerate(complete_lines(path), 1) if step_of(line, n, path)["step"] <= step
        ]
        write_whole(path, "".join(f"{line}\n" for line in kept))
        self._path = path

    def write(self, step: int, metrics: Mapping[str, float | int]) -> None:
        """Append one line. Raises WriteError."""
        append(self._path, json.dumps({"step": step, **metrics}) + "\n")


_ROLLOUTS = pa.schema(  # written out: a column of None alone would get another type in that step's file
    {
        "group": pa.int64(),
        "round": pa.int64(),
        "answer_index": pa.int64(),
        "prompt_id": pa.string(),
        "task": pa.string(),
        "gold": pa.string(),
        "text": pa.string(),
        "answer": pa.string(),
        "finish_reason": pa.string(),
        "token_count": pa.int64(),
        "rewards": pa.string(),
        "reward": pa.float64(),
        "advantage": pa.float64(),
        "valid": pa.bool_(),
        "version": pa.int64(),
    }
)


def rollout_rows(collection: Collection, advantages: Tensor) -> list[dict[str, Any]]:
    """Every sampled answer of a step, one row each, discarded groups included.

    advantages: (B, G), 0 for invalid groups. `group` is the index in the step (the same question may
    come twice), so B, M and alpha can be recomputed. `version` counts the run's steps that the
    weights had seen that sampled.
    """
    return [
        {
            "group": b,
            "round": group.round,
            "answer_index": g,
            "prompt_id": group.answered.sample.id,
            "task": group.answered.sample.task,
            "gold": group.answered.sample.answer,
            "text": answer.text,
            "answer": completion.answer,
            "finish_reason": answer.finish_reason,
            "token_count": len(answer.token_ids),
            "rewards": json.dumps({name: s[g] for name, s in group.scores.by_reward.items()}),
            "reward": group.scores.total[g],
            "advantage": float(advantages[b, g]),
            "valid": group.valid,
            "version": answer.version,
        }
        for b, group in enumerate(collection.groups)
        for g, (answer, completion) in enumerate(
            zip(group.answered.answers, group.answered.completions, strict=True)
        )
    ]


def write_rollouts(path: Path, collection: Collection, advantages: Tensor) -> None:
    """Write what `rollout_rows` gives of a step. Raises WriteError."""
    with replacing(path) as temporary:
        rows = rollout_rows(collection, advantages)
        pq.write_table(pa.Table.from_pylist(rows, schema=_ROLLOUTS), temporary)
