"""What a run leaves behind: metrics and rollout records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator
from torch import Tensor

from gpg_vl.algorithm.collect import Collection
from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.runs.files import step_of
from gpg_vl.runtime.files import append, complete_lines, replacing, write_whole
from gpg_vl.types import Metrics


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


def write_rollouts(path: Path, collection: Collection, advantages: Tensor) -> None:
    """Every sampled answer of a step, one row each, discarded groups included.

    advantages: (B, G), 0 for invalid groups. `group` is the index in the step (the same question may
    come twice), so B, M and alpha can be recomputed. `version` counts the optimizer steps of the weights that
    sampled. Raises WriteError.
    """
    rows = []
    for b, group in enumerate(collection.groups):
        one = group.answered
        for g, (answer, completion) in enumerate(zip(one.answers, one.completions, strict=True)):
            rows.append(
                {
                    "group": b,
                    "round": group.round,
                    "answer_index": g,
                    "prompt_id": one.sample.id,
                    "task": one.sample.task,
                    "gold": one.sample.answer,
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
            )
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=_ROLLOUTS), temporary)


class Trackers:
    """TensorBoard, W&B or trackio, through Accelerate; nothing where none is configured."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig | SftConfig) -> None:
        """Raises ConfigurationError where W&B does not let this user in."""
        self._accelerator = accelerator
        if config.run.trackers:
            settings = {key: str(value) for key, value in asdict(config).items()}
            try:
                accelerator.init_trackers("gpg-vl", config=settings)
            except _refusals(config.run.trackers) as error:
                raise ConfigurationError(f"run.trackers wandb: {error}") from error

    def log(self, step: int, metrics: Metrics) -> None:
        """Send one step's metrics."""
        self._accelerator.log(metrics, step=step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        self._accelerator.end_training()  # flushes, also when the run ends early


def _refusals(trackers: Sequence[str]) -> tuple[type[Exception], ...]:
    if "wandb" not in trackers:
        return ()
    from wandb.errors import Error  # an extra of the package

    return (Error,)
