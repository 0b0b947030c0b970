"""One tour: scenes, a small model, a warm start, GPG, and the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.quickstart.parts import (
    PhaseClock,
    accuracy,
    choose_threads,
    figures,
    make_model,
    prepare_scenes,
    rate_option,
    recipe_config,
    steps_option,
)
from gpg_vl.quickstart.reasoning import reasoning_tour, reasoning_words
from gpg_vl.quickstart.tour import Tour
from gpg_vl.report.report import write_run_report
from gpg_vl.runs.files import read_evaluations, read_metrics
from gpg_vl.runtime.files import write_whole
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft


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
        train_set = prepare_scenes(out / "data" / "train", "scenes", "train", tour.train_rows, seed)
        held_out = prepare_scenes(out / "data" / "held_out", "scenes", "test", tour.held_out_rows, seed)
    with clock("model"):
        model = make_model(out / "model", train_set, seed)
        threads = choose_threads(out / "threads.json", model, train_set)
    common = ["--run.seed", str(seed), "--run.threads", str(threads), "--data.train", f'["{train_set}"]']
    with clock("warm start"):
        options = [*common, "--model.path", str(model), *steps_option(tour.warm_start_steps)]
        warm = sft(recipe_config(SftConfig, "quickstart_sft", out / "warmstart", options), resume="auto")
    options = [*common, "--model.path", str(warm), "--data.validation", f'["{held_out}"]']
    with clock("gpg"):
        own = [*options, *steps_option(tour.steps), *rate_option(tour.learning_rate)]
        config = recipe_config(TrainConfig, "quickstart_gpg", out / "gpg", own)
        train(config, resume="auto")
    others = {}
    if tour.compare is not None:
        with clock(tour.compare):
            their_own = [*options, *rate_option(tour.compare_learning_rate)]
            others = {tour.compare.upper(): compare_run(out, tour.compare, their_own)}
    report = write_run_report(out / "gpg", others)
    parts = {"reasoning": reasoning_tour(tour, threads, clock)} if tour.reasoning else {}
    return Done(tour, warm, report, write_summary(out, seed, clock.seconds, others, parts))


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


def compare_run(out: Path, preset: str, options: Sequence[str]) -> Path:
    """Train with another preset from the same warm start on at least as many sampled answers."""
    sampled = sum(int(step["groups/sampled"]) for step in read_metrics(out / "gpg"))
    # The preset's own knobs, over those that the recipe sets for GPG; GPG has no KL term either.
    knobs = {"preset": preset, "kl_beta": 0.0, "min_valid_fraction": 0.0, "max_rounds": 1}
    extra = [word for knob, value in knobs.items() for word in (f"--algorithm.{knob}", str(value))]
    recipe = recipe_config(TrainConfig, "quickstart_gpg", out / preset, [*options, *extra])
    steps = -(-sampled // recipe.algorithm.questions_per_step)
    train(replace(recipe, run=replace(recipe.run, steps=steps)), resume="auto")
    return out / preset


def write_summary(
    out: Path, seed: int, seconds: dict[str, float], others: dict[str, Path], parts: dict[str, Any]
) -> dict[str, Any]:
    """`summary.json`: base and trained, per task and in total, with counts, chance, parts and seconds."""
    evaluations = read_evaluations(out / "gpg")
    summary = {
        "seeds": [seed],
        "chance": evaluations[0]["chance"],
        "base": figures(evaluations[0]),
        "trained": figures(evaluations[-1]),
        **{name.lower(): figures(read_evaluations(run)[-1]) for name, run in others.items()},
        **parts,
        "seconds": {phase: round(value, 1) for phase, value in seconds.items()},
    }
    write_whole(out / "summary.json", json.dumps(summary, indent=2))
    return summary


def closing_words(done: Done) -> str:
    """Result, paths and what to type next."""
    tour, warm, summary = done.tour, done.warm, done.summary
    out, rival = Path(tour.out), tour.compare
    base, trained = summary["base"]["total"], summary["trained"]["total"]
    gain = 100 * (accuracy(summary["trained"]) - accuracy(summary["base"]))
    seconds = sum(summary["seconds"].values())
    model = out / "gpg" / "checkpoints" / f"step_{summary['trained']['step']:06d}" / "model"
    return "\n".join(
        [
            "",
            f"accuracy on {base['accuracy']['count']} held-out questions "
            f"(chance {summary['chance']:.1%}): {accuracy(summary['base']):.1%} -> "
            f"{accuracy(summary['trained']):.1%} ({gain:+.1f} points),",
            f"format after training {trained['format']['mean']:.1%}; {seconds / 60:.1f} minutes in all",
            *(
                [f"{rival.upper()} on as many sampled answers: {accuracy(summary[rival]):.1%}"]
                if rival
                else []
            ),
            "",
            *([*reasoning_words(summary["reasoning"], out), ""] if tour.reasoning else []),
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
