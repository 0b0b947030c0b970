"""What tours are made of: scenes, a small model, recipes, and the seconds that each phase takes."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from gpg_vl.config import ModelConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.model.loading import load_policy
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.policy import Policy
from gpg_vl.model.tiny import save_tiny
from gpg_vl.options import Config, load_config
from gpg_vl.prompting.prompts import Prompt, question_text
from gpg_vl.registry import converters
from gpg_vl.rollout.answering import build_encoder
from gpg_vl.runtime.files import write_whole
from gpg_vl.training.warmstart import supervised_rows


def prepare_scenes(folder: Path, converter: str, split: str, rows: int, seed: int) -> Path:
    """Draw a prepared set of scenes, unless it is there already."""
    if not folder.exists():
        scenes = converters.get(converter)
        samples = islice(scenes.function("", split=split, seed=seed), rows)
        write_prepared(
            samples,
            folder,
            source="",
            converter=scenes.name,
            version=scenes.version,
            options={"split": split, "seed": seed},
        )
    return folder


def make_model(folder: Path, data: Path, seed: int) -> Path:
    """A small model whose tokenizer is trained on the questions and their reasoning, unless it is there."""
    if not folder.exists():
        rows = PreparedDataset.open([str(data)]).head(500)
        samples = [rows[i] for i in range(len(rows))]
        texts = [text for one in samples for text in (question_text(one), one.reasoning) if text]
        temporary = folder.with_name(".making-model")
        shutil.rmtree(temporary, ignore_errors=True)
        save_tiny(temporary, texts, seed=seed)
        os.rename(temporary, folder)
    return folder


def choose_threads(file: Path, model: Path, data: Path) -> int:
    """The torch thread count that trains this model fastest here, measured once and kept.

    More is often slower at this size, and a resumed run has to use the same number.
    """
    if not file.exists():
        policy = load_policy(str(model))
        encoder = build_encoder(policy, Prompt(instruction=""), ModelConfig())
        rows = PreparedDataset.open([str(data)])
        supervised = supervised_rows([rows[i] for i in range(32)], encoder, policy.eos_token_ids[0])
        batch = policy.collate(supervised)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        seconds = {count: _seconds(policy, batch, count) for count in (1, 2, 4) if count <= cores}
        write_whole(file, json.dumps({"threads": min(seconds, key=lambda n: seconds[n]), "seconds": seconds}))
    return int(json.loads(file.read_text())["threads"])


def _seconds(policy: Policy, batch: PackedBatch, threads: int) -> float:
    """Median seconds of a forward and backward pass."""
    torch.set_num_threads(threads)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        policy(batch, 1.0)[0].sum().backward()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def recipe_config(kind: type[Config], recipe: str, out: Path, options: Sequence[str]) -> Config:
    """A shipped recipe with its run folder, and options that win over what it says."""
    path = files("gpg_vl.configs") / f"{recipe}.yaml"
    return load_config(kind, ["--config", str(path), "--out", str(out), *options])


class PhaseClock:
    """Seconds by phase, summed over interrupted runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
            write_whole(self._path, json.dumps(self.seconds))


def steps_option(steps: int | None) -> list[str]:
    """Of a run; None leaves it to the recipe."""
    return [] if steps is None else ["--run.steps", str(steps)]


def rate_option(rate: float | None) -> list[str]:
    """Likewise."""
    return [] if rate is None else ["--optim.learning_rate", str(rate)]


def figures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary has of an evaluation."""
    return {
        "step": evaluation["step"],
        "total": evaluation["totals"],
        "tasks": evaluation["tasks"],
    }


def accuracy(found: Mapping[str, Any], task: str | None = None) -> float:
    """The mean accuracy in such figures, in [0, 1]; of all tasks together where none is named."""
    share = found["total"] if task is None else found["tasks"][task]
    mean: float = share["accuracy"]["mean"]
    return mean
