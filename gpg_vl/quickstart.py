"""The five-minute tour: scenes, a small model, a warm start, GPG, and the report."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from gpg_vl.config import ModelConfig, SftConfig, TrainConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ConfigurationError
from gpg_vl.model.loading import load_policy
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.policy import Policy
from gpg_vl.model.tiny import save_tiny
from gpg_vl.options import Config, load_config
from gpg_vl.prompting.prompts import Prompt, question_text
from gpg_vl.registry import converters
from gpg_vl.report.report import write_run_report
from gpg_vl.rollout.answering import build_encoder
from gpg_vl.runs.files import read_evaluations, read_metrics
from gpg_vl.runtime.files import write_whole
from gpg_vl.tour import Tour
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft, supervised_rows


@dataclass(frozen=True)
class Done:
    """A tour that has been run."""

    tour: Tour
    warm: Path
    """Folder of the warm start's model."""
    report: Path
    summary: dict[str, Any]
    """As in `summary.json`."""


def run_quickstart(tour: Tour) -> None:
    """Run whatever of the tour is not done yet, and print the result."""
    print(f"{tour.out}: drawing scenes, making a small Qwen2-VL, then the warm start, GPG and the report")
    print(closing_words(run_tour(tour)))


def run_tour(tour: Tour) -> Done:
    """Run whatever of the tour is not done yet."""
    out, seed = Path(tour.out), tour.seed
    check_same(tour, out / "tour.json")
    clock = PhaseClock(out / "timings.json")
    with clock("data"):
        train_set = prepare_scenes(out / "data" / "train", "train", tour.train_rows, seed)
        held_out = prepare_scenes(out / "data" / "held_out", "test", tour.held_out_rows, seed)
    with clock("model"):
        model = make_model(out / "model", train_set, seed)
        threads = choose_threads(out / "threads.json", model, train_set)
    common = ["--run.seed", str(seed), "--run.threads", str(threads), "--data.train", f'["{train_set}"]']
    with clock("warm start"):
        options = [*common, "--model.path", str(model), *_steps(tour.warm_start_steps)]
        warm = sft(_config(SftConfig, "quickstart_sft", out / "warmstart", options), resume="auto")
    options = [*common, "--model.path", str(warm), "--data.validation", f'["{held_out}"]']
    with clock("gpg"):
        own = [*options, *_steps(tour.steps), *_rate(tour.learning_rate)]
        config = _config(TrainConfig, "quickstart_gpg", out / "gpg", own)
        train(config, resume="auto")
    others = {}
    if tour.compare is not None:
        with clock(tour.compare):
            their_own = [*options, *_rate(tour.compare_learning_rate)]
            others = {tour.compare.upper(): compare_run(out, tour.compare, their_own)}
    report = write_run_report(out / "gpg", others)
    return Done(tour, warm, report, write_summary(out, seed, clock.seconds, others))


def check_same(tour: Tour, file: Path) -> None:
    """Raise ConfigurationError if the folder was made with other data: what is there would be reused."""
    made_of = {name: getattr(tour, name) for name in ("seed", "train_rows", "held_out_rows")}
    if not file.is_file() and file.parent.is_dir() and any(file.parent.iterdir()):
        raise ConfigurationError(f"{tour.out!r} holds something else than a tour; choose another --out")
    before = json.loads(file.read_text()) if file.is_file() else made_of
    changed = [f"--{name} {before[name]}" for name in made_of if before[name] != made_of[name]]
    if changed:
        raise ConfigurationError(f"{tour.out!r} was made with {' '.join(changed)}; choose another --out")
    write_whole(file, json.dumps(made_of))


def _steps(steps: int | None) -> list[str]:
    return [] if steps is None else ["--run.steps", str(steps)]


def _rate(rate: float | None) -> list[str]:
    return [] if rate is None else ["--optim.learning_rate", str(rate)]


def prepare_scenes(folder: Path, split: str, rows: int, seed: int) -> Path:
    """Draw a prepared set of scenes, unless it is there already."""
    if not folder.exists():
        scenes = converters.get("scenes")
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
    """A small model whose tokenizer is trained on the questions, unless it is there already."""
    if not folder.exists():
        rows = PreparedDataset.open([str(data)]).head(500)
        texts = [question_text(rows[i]) for i in range(len(rows))]
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


def compare_run(out: Path, preset: str, options: Sequence[str]) -> Path:
    """Train with another preset from the same warm start on at least as many sampled answers."""
    sampled = sum(int(step["groups/sampled"]) for step in read_metrics(out / "gpg"))
    # The preset's own knobs, over those that the recipe sets for GPG; GPG has no KL term either.
    knobs = {"preset": preset, "kl_beta": 0.0, "min_valid_fraction": 0.0, "max_rounds": 1}
    extra = [word for knob, value in knobs.items() for word in (f"--algorithm.{knob}", str(value))]
    recipe = _config(TrainConfig, "quickstart_gpg", out / preset, [*options, *extra])
    steps = -(-sampled // recipe.algorithm.questions_per_step)
    train(replace(recipe, run=replace(recipe.run, steps=steps)), resume="auto")
    return out / preset


def _config(kind: type[Config], recipe: str, out: Path, options: Sequence[str]) -> Config:
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


def write_summary(out: Path, seed: int, seconds: dict[str, float], others: dict[str, Path]) -> dict[str, Any]:
    """`summary.json`: base and trained, per task and in total, with counts, chance and seconds."""
    evaluations = read_evaluations(out / "gpg")
    summary = {
        "seeds": [seed],
        "chance": evaluations[0]["chance"],
        "base": _figures(evaluations[0]),
        "trained": _figures(evaluations[-1]),
        **{name.lower(): _figures(read_evaluations(run)[-1]) for name, run in others.items()},
        "seconds": {phase: round(value, 1) for phase, value in seconds.items()},
    }
    write_whole(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def _figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": evaluation["step"],
        "total": evaluation["totals"],
        "tasks": evaluation["tasks"],
    }


def _accuracy(figures: dict[str, Any]) -> str:
    return f"{figures['total']['accuracy']['mean']:.1%}"


def closing_words(done: Done) -> str:
    """Result, paths and what to type next."""
    tour, warm, summary = done.tour, done.warm, done.summary
    out, rival = Path(tour.out), tour.compare
    base, trained = summary["base"]["total"], summary["trained"]["total"]
    gain = 100 * (trained["accuracy"]["mean"] - base["accuracy"]["mean"])
    seconds = sum(summary["seconds"].values())
    model = out / "gpg" / "checkpoints" / f"step_{summary['trained']['step']:06d}" / "model"
    return "\n".join(
        [
            "",
            f"accuracy on {base['accuracy']['count']} held-out questions "
            f"(chance {summary['chance']:.1%}): {_accuracy(summary['base'])} -> "
            f"{_accuracy(summary['trained'])} ({gain:+.1f} points),",
            f"format after training {trained['format']['mean']:.1%}; {seconds / 60:.1f} minutes in all",
            *([f"{rival.upper()} on as many sampled answers: {_accuracy(summary[rival])}"] if rival else []),
            "",
            f"report     {done.report}",
            f"summary    {out / 'summary.json'}",
            f"base       {warm}",
            f"trained    {model}",
            "",
            "next:",
            f"  {demo_command(out, warm, model)}",
            f"  gpg-vl eval --model {model} --benchmark {out / 'data' / 'held_out'}",
            *([] if rival else [f"  {tour.command(compare='grpo')}"]),
            "  gpg-vl train --help",
        ]
    )


def demo_command(out: Path, warm: Path, model: Path) -> str:
    """What opens the web app on the tour's two models, its run and its held-out questions."""
    data = out / "data" / "held_out"
    return f"gpg-vl demo --base {warm} --trained {model} --run {out / 'gpg'} --data {data}"
