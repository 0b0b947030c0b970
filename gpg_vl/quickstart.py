"""The five-minute tour: scenes, a small model, a warm start, GPG, and the report."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from gpg_vl.config import SftConfig, TrainConfig, load_config
from gpg_vl.data import PreparedDataset, write_prepared
from gpg_vl.prompts import question_text
from gpg_vl.registry import converters
from gpg_vl.report import write_run_report
from gpg_vl.run_files import read_evaluations, read_metrics
from gpg_vl.tiny import save_tiny
from gpg_vl.train import train
from gpg_vl.warmstart import sft

TRAIN_ROWS = 16000
HELD_OUT_ROWS = 640
"""Of the scenes' test split, whose configurations never occur in training."""


def run_quickstart(out: Path, *, seed: int, compare: str | None = None, steps: int | None = None) -> None:
    """Run whatever of the tour is not done yet in `out`, and print the result.

    Stopped at any moment, the same call goes on where it was. `compare` adds GRPO from the same warm
    start on as many sampled answers; `steps` shortens GPG.
    """
    clock = PhaseClock(out / "timings.json")
    with clock("data"):
        train_set = prepare_scenes(out / "data" / "train", "train", TRAIN_ROWS, seed)
        held_out = prepare_scenes(out / "data" / "held_out", "test", HELD_OUT_ROWS, seed)
    with clock("model"):
        model = make_model(out / "model", train_set, seed)
    with clock("warm start"):
        options = ["--model.path", str(model), "--data.train", json.dumps([str(train_set)])]
        warm = sft(_config(SftConfig, "quickstart_sft", out / "warmstart", seed, options), resume="auto")
    data = ["--data.train", json.dumps([str(train_set)]), "--data.validation", json.dumps([str(held_out)])]
    options = ["--model.path", str(warm), *data]
    length = [] if steps is None else ["--run.steps", str(steps)]
    with clock("gpg"):
        train(_config(TrainConfig, "quickstart_gpg", out / "gpg", seed, [*options, *length]), resume="auto")
    others = {}
    if compare is not None:
        with clock(compare):
            others = {compare.upper(): compare_run(out, compare, seed, options)}
    report = write_run_report(out / "gpg", others)
    summary = write_summary(out, seed, clock.seconds, others)
    print(closing_words(out, warm, report, summary))


def prepare_scenes(folder: Path, split: str, rows: int, seed: int) -> Path:
    """Draw a prepared set of scenes, unless it is there already."""
    if not folder.exists():
        scenes = converters.get("scenes")
        samples = islice(scenes.function("", split=split, seed=seed), rows)
        write_prepared(samples, folder, source="", converter=scenes.name, version=scenes.version)
    return folder


def make_model(folder: Path, data: Path, seed: int) -> Path:
    """A small model whose tokenizer is trained on the questions, unless it is there already."""
    if not folder.exists():
        rows = PreparedDataset.open([str(data)]).head(500)
        texts = [question_text(rows[i]) for i in range(len(rows))]
        temporary = folder.with_name(".making-model")
        shutil.rmtree(temporary, ignore_errors=True)
        save_tiny(temporary, texts, seed=seed)
        os.rename(temporary, folder)
    return folder


def compare_run(out: Path, preset: str, seed: int, options: Sequence[str]) -> Path:
    """Train with another preset from the same warm start on at least as many sampled answers."""
    sampled = sum(int(step["groups/sampled"]) for step in read_metrics(out / "gpg"))
    extra = ["--algorithm.preset", preset, "--algorithm.kl_beta", "0.0", *GRPO_OVERRIDES]
    config = _config(TrainConfig, "quickstart_gpg", out / preset, seed, [*options, *extra])
    steps = -(-sampled // config.algorithm.questions_per_step)
    config = _config(
        TrainConfig, "quickstart_gpg", out / preset, seed, [*options, *extra, "--run.steps", str(steps)]
    )
    train(config, resume="auto")
    return out / preset


GRPO_OVERRIDES = ("--algorithm.min_valid_fraction", "0.0", "--algorithm.max_rounds", "1")


def _config(kind: Any, recipe: str, out: Path, seed: int, options: Sequence[str]) -> Any:
    path = files("gpg_vl.configs") / f"{recipe}.yaml"
    return load_config(kind, ["--config", str(path), "--out", str(out), "--run.seed", str(seed), *options])


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
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.seconds))


def write_summary(out: Path, seed: int, seconds: dict[str, float], others: dict[str, Path]) -> dict[str, Any]:
    """`summary.json`: base and trained, per task and in total, with counts, chance and seconds."""
    evaluations = read_evaluations(out / "gpg")
    summary = {
        "seed": seed,
        "chance": evaluations[0]["chance"],
        "base": _figures(evaluations[0]),
        "trained": _figures(evaluations[-1]),
        **{name.lower(): _figures(read_evaluations(run)[-1]) for name, run in others.items()},
        "seconds": {phase: round(value, 1) for phase, value in seconds.items()},
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


def _figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": evaluation["step"],
        "total": evaluation["totals"],
        "tasks": evaluation["tasks"],
    }


def closing_words(out: Path, warm: Path, report: Path, summary: dict[str, Any]) -> str:
    """Result, paths and what to type next."""
    base, trained = summary["base"]["total"], summary["trained"]["total"]
    gain = 100 * (trained["accuracy"]["mean"] - base["accuracy"]["mean"])
    seconds = sum(summary["seconds"].values())
    model = out / "gpg" / "checkpoints" / f"step_{summary['trained']['step']:06d}" / "model"
    return "\n".join(
        [
            "",
            f"accuracy on {base['accuracy']['count']} held-out questions "
            f"(chance {summary['chance']:.1%}): {base['accuracy']['mean']:.1%} -> "
            f"{trained['accuracy']['mean']:.1%} ({gain:+.1f} points),",
            f"format {trained['format']['mean']:.1%}, in {seconds / 60:.1f} minutes",
            "",
            f"report     {report}",
            f"summary    {out / 'summary.json'}",
            f"base       {warm}",
            f"trained    {model}",
            "",
            "next:",
            f"  gpg-vl eval --model {model} --benchmark {out / 'data' / 'held_out'}",
            f"  gpg-vl quickstart --out {out} --seed {summary['seed']} --compare grpo",
            "  gpg-vl train --help",
        ]
    )
