"""Whether models learn as well where weights, moments and bases take less memory.

python -m benchmarks.memory_ways --out runs/ways --seeds 1 2 3

From the quickstart's warm start of each seed, GPG with every way of holding weights; the figure is greedy
accuracy on the quickstart's held-out scenes. A run that was stopped goes on with the same command.
"""

import argparse
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from gpg_vl.config import TrainConfig
from gpg_vl.options import load_config
from gpg_vl.quickstart.run import run_quickstart
from gpg_vl.quickstart.tour import Tour
from gpg_vl.runs.files import read_evaluations
from gpg_vl.training.train import train

FULL = {
    "fp32": {},
    "8-bit AdamW": {"optim.kind": "adamw8bit"},
    "bf16 arithmetic": {"model.precision": "bf16"},
    "bf16 weights, stochastic": {
        "model.precision": "bf16",
        "model.trained_precision": "bf16",
        "optim.kind": "adamw8bit",
    },
    "bf16 weights, kahan": {
        "model.precision": "bf16",
        "model.trained_precision": "bf16",
        "optim.kind": "adamw8bit",
        "optim.rounding": "kahan",
    },
}
LORA = {
    "LoRA, fp32": {},
    "LoRA, bf16 base": {"model.precision": "bf16"},
    "LoRA, 4-bit base": {"model.precision": "bf16", "model.frozen_precision": "nf4"},
}
_LORA: dict[str, Any] = {"model.lora_rank": 16, "optim.learning_rate": 1e-3}
WAYS: dict[str, dict[str, Any]] = {**FULL, **{name: _LORA | way for name, way in LORA.items()}}


def accuracies(out: Path, seed: int, steps: int) -> dict[str, float]:
    """Of the warm start and of each way, in percent."""
    folder = out / f"seed{seed}"
    run_quickstart(Tour(str(folder), seed=seed, steps=1))
    data = folder / "data"
    common: dict[str, Any] = {
        "run.seed": seed,
        "run.threads": 1,
        "run.steps": steps,
        "data.train": [str(data / "train")],
        "data.validation": [str(data / "held_out")],
    }
    (warm,) = (folder / "warmstart" / "checkpoints").glob("step_*/model")
    found: dict[str, float] = {}
    for name, way in WAYS.items():
        run = folder / name.replace(" ", "_").replace(",", "")
        options = common | {"model.path": warm} | way
        words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        recipe = files("gpg_vl.configs") / "quickstart_gpg.yaml"
        train(load_config(TrainConfig, ["--config", str(recipe), "--out", str(run), *words]), resume="auto")
        before, *_, after = read_evaluations(run)
        found.setdefault("warm start", _accuracy(before))
        found[name] = _accuracy(after)
        print(f"seed {seed}, {name}: {found[name]:.1f}", flush=True)
    return found


def _accuracy(evaluation: dict[str, Any]) -> float:
    return 100 * float(evaluation["totals"]["accuracy"]["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    by_seed = [accuracies(given.out, seed, given.steps) for seed in given.seeds]
    for name in by_seed[0]:
        values = [found[name] for found in by_seed]
        spread = f"{stdev(values):.1f}" if len(values) > 1 else ""
        print(
            f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} | {mean(values):.1f} | {spread} |"
        )


if __name__ == "__main__":
    main()
