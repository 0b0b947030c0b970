"""A run's folder in Python: its metrics and rollouts as tables, its checkpoints as models."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import CheckpointError, DataError
from gpg_vl.evaluation.model import Model, load
from gpg_vl.interface.evaluation import Evaluation
from gpg_vl.options import load_config
from gpg_vl.report.report import write_run_report
from gpg_vl.runs.best import find_best
from gpg_vl.runs.files import read_evaluations, read_metrics
from gpg_vl.runs.resume import list_checkpoints, step_of
from gpg_vl.yaml_file import read_yaml

_NONE: Mapping[str, Path] = MappingProxyType({})


class Run:
    """What `train` or `sft` left in a folder, and leaves there while it goes on."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError where there is no run."""
        self.folder = Path(folder)
        if not (self.folder / "config.yaml").is_file():
            raise DataError(f"{str(folder)!r} is no run folder: it has no config.yaml")

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> TrainConfig | SftConfig:
        """Everything that was used, defaults included."""
        file = self.folder / "config.yaml"
        kind: Any = TrainConfig if "algorithm" in read_yaml(file) else SftConfig
        return load_config(kind, [f"--config={file}"])

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a step, which is the index; the columns stand in docs/metrics.md."""
        steps = read_metrics(self.folder)
        return pd.DataFrame(steps).set_index("step") if steps else pd.DataFrame()

    @property
    def evaluations(self) -> dict[int, Evaluation]:
        """Evaluations on the validation data, by step; 0 is the model before training."""
        return {one["step"]: Evaluation(one) for one in read_evaluations(self.folder)}

    def rollouts(self, step: int | None = None) -> pd.DataFrame:
        """Every sampled answer, one a row, discarded groups included: of one step, or of all.

        Rewards are columns `reward/NAME`, NaN where one could not grade. Raises DataError for a step that was
        not sampled.
        """
        files = sorted((self.folder / "rollouts").glob("step_*.parquet"))
        if step is not None:
            files = [file for file in files if step_of(file.with_suffix("")) == step]
            if not files:
                raise DataError(f"{self.folder} has no rollouts of step {step}")
        tables = [pd.read_parquet(file).assign(step=step_of(file.with_suffix(""))) for file in files]
        if not tables:
            return pd.DataFrame()
        table = pd.concat(tables, ignore_index=True)
        scores = pd.DataFrame([json.loads(text) for text in table.pop("rewards")]).add_prefix("reward/")
        return table.join(scores)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Model folders by step, the oldest first."""
        found = list_checkpoints(self.folder / "checkpoints")
        return {step: path / "model" for path in found if (step := step_of(path)) is not None}

    @property
    def best(self) -> int | None:
        """The step of the best evaluation by `run.best_by` whose model is there; 0 is the model before
        training. None where nothing was evaluated."""
        checkpoints = self.folder / "checkpoints"
        found = find_best(self.folder, checkpoints, self.config.run.best_by)
        return None if found is None else found.step

    def model(self, step: int | None = None, **options: Any) -> Model:
        """Load the checkpoint of a step, the last one if it is None; options as in `load`.

        0 is the model before training. Raises CheckpointError for a step that was not kept.
        """
        if step == 0:
            return load(self.config.model.path, **options)
        kept = self.checkpoints
        chosen = max(kept, default=None) if step is None else step
        if chosen not in kept:
            steps = ", ".join(map(str, kept)) or "none"
            raise CheckpointError(f"{self.folder} has no checkpoint of step {step}; it has: {steps}")
        return load(kept[chosen], **options)

    def report(self, others: Mapping[str, str | Path] = _NONE) -> Path:
        """Write report.html: curves, base against trained, sample answers; `others` are runs by name."""
        return write_run_report(self.folder, {name: Path(path) for name, path in others.items()})
