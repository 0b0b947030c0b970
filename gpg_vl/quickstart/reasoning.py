"""The tour's part about thinking: questions of several steps, with and without writing the steps down.

One untrained model is taught twice on the same rows, in as many steps: with each row's reasoning, and answers
alone. GPG goes on from both with one recipe, which pays for the right choice and the tags and says nothing
about length.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.quickstart.parts import (
    PhaseClock,
    accuracy,
    figures,
    make_model,
    prepare_scenes,
    rate_option,
    recipe_config,
    steps_option,
)
from gpg_vl.quickstart.tour import Tour
from gpg_vl.report.report import write_run_report
from gpg_vl.runs.files import Evaluation, read_evaluations
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft

WAYS = {"with": True, "without": False}
"""Whether the warm start teaches the reasoning, by the name in `summary.json` and of the folder."""
_CONVERTER = "scenes_reasoning"


def reasoning_tour(tour: Tour, threads: int, clock: PhaseClock) -> dict[str, Any]:
    """Run whatever of this part is not done yet; returns what `summary.json` says of it."""
    out, seed = Path(tour.out) / "reasoning", tour.seed
    with clock("reasoning data"):
        train_set = prepare_scenes(out / "data" / "train", _CONVERTER, "train", tour.train_rows, seed)
        held_out = prepare_scenes(out / "data" / "held_out", _CONVERTER, "test", tour.held_out_rows, seed)
        model = make_model(out / "model", train_set, seed)
    common = ["--run.seed", str(seed), "--run.threads", str(threads)]
    common += ["--data.train", f'["{train_set}"]', "--data.validation", f'["{held_out}"]']
    for way in WAYS:
        with clock(f"{way} reasoning"):
            _train(tour, way, out / way, model, common)
    write_run_report(out / "with" / "gpg", {"Without thinking": out / "without" / "gpg"})
    return {way: _outcome(read_evaluations(out / way / "gpg")) for way in WAYS}


def _train(tour: Tour, way: str, out: Path, model: Path, common: list[str]) -> None:
    """The warm start, and GPG from it."""
    taught = ["--model.path", str(model), "--reasoning", str(WAYS[way]).lower()]
    options = [*common, *taught, *steps_option(tour.warm_start_steps)]
    warm = sft(
        recipe_config(SftConfig, "quickstart_reasoning_sft", out / "warmstart", options), resume="auto"
    )
    options = [
        *common,
        "--model.path",
        str(warm),
        *steps_option(tour.steps),
        *rate_option(tour.learning_rate),
    ]
    train(recipe_config(TrainConfig, "quickstart_reasoning_gpg", out / "gpg", options), resume="auto")


def _outcome(evaluations: list[Evaluation]) -> dict[str, Any]:
    ends = {"base": evaluations[0], "trained": evaluations[-1]}
    return {name: {**figures(one), "tokens": answer_tokens(one)} for name, one in ends.items()}


def answer_tokens(evaluation: Evaluation) -> float:
    """Mean tokens of the answers, end of text included."""
    return fmean(item["token_count"] for item in evaluation["items"])


def reasoning_words(part: Mapping[str, Any], out: Path) -> list[str]:
    """What came out, before and after GPG, and where to read it."""
    count = part["with"]["base"]["total"]["accuracy"]["count"]
    stages = {"warm start": "base", "after GPG": "trained"}
    return [
        f"{count} held-out questions of several steps:",
        *(f"  {stage}: {_compared(part, name)}" for stage, name in stages.items()),
        f"report     {out / 'reasoning' / 'with' / 'gpg' / 'report.html'}",
    ]


def _compared(part: Mapping[str, Any], stage: str) -> str:
    cells = {way: part[way][stage] for way in WAYS}
    words = {way: f"{accuracy(one):.1%}, {one['tokens']:.0f} tokens" for way, one in cells.items()}
    return f"with thinking {words['with']}; without {words['without']}"
