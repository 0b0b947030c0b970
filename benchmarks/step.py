"""One GPG step by this project, by plain transformers, and by TRL's GRPOTrainer without a KL term.

python -m benchmarks.step --workload 336-g8-48 --out runs/step.json
python -m benchmarks.step --workload 336-g8-48 --check

Same model, questions, number of sampled tokens, optimizer and threads for everyone; every measurement is the
second step of a process of its own, and they alternate. Needs the extra `bench`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.check import compare
from benchmarks.child import parse_runner
from benchmarks.inputs import PROCESSOR, write_model
from benchmarks.machine import write_result
from benchmarks.phases import PHASES
from benchmarks.workloads import WORKLOADS
from gpg_vl.tables import markdown_table, short_number

Measured = dict[str, Any]
"""What a child writes: `libraries` and `held` in bytes, and by phase `seconds` and `peak` in bytes."""
OURS = "gpg-vl"
MIB = 2**20


def measure(runner: str, workload: str, model: Path, threads: int) -> Measured:
    """One step in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        options = ["--model", str(model), "--threads", str(threads), "--out", str(out)]
        settings = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONWARNINGS": "ignore",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
        }
        subprocess.run(
            [sys.executable, "-m", "benchmarks.child", runner, workload, *options],
            check=True,
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
        )
        measured: Measured = json.loads(out.read_text())
        return measured


def seconds(measured: Measured, phase: str | None = None) -> float:
    """Of a phase; of the whole step by default."""
    phases = measured["phases"]
    return sum(p["seconds"] for p in phases.values()) if phase is None else phases[phase]["seconds"]


def peak(measured: Measured, phase: str | None = None) -> float:
    """MiB at the highest point of a phase; of the whole step by default."""
    phases = measured["phases"]
    return (max(p["peak"] for p in phases.values()) if phase is None else phases[phase]["peak"]) / MIB


def own_peak(measured: Measured) -> float:
    """MiB at the highest point of the step, without the imported libraries."""
    return peak(measured) - measured["libraries"] / MIB


def tables(runs: dict[str, list[Measured]]) -> str:
    """Seconds and peak memory by phase, medians over the repeats."""
    held = {"at the start of the step": "held", "before the model is loaded": "libraries"}
    rows = [[name, *_cells(runs, lambda m, key=key: m[key] / MIB)] for name, key in held.items()]
    parts = [
        markdown_table(["seconds", *runs], _by_phase(runs, seconds)),
        markdown_table(["peak MiB", *runs], [*_by_phase(runs, peak), *rows]),
    ]
    return "\n\n".join([*parts, *ratios(runs)])


def _by_phase(runs: dict[str, list[Measured]], figure: Callable[..., float]) -> list[list[str]]:
    phases = [[phase, *_cells(runs, lambda m, phase=phase: figure(m, phase))] for phase in PHASES]
    return [*phases, ["whole step", *_cells(runs, figure)]]


def _cells(runs: dict[str, list[Measured]], figure: Callable[..., float]) -> list[str]:
    return [short_number(median(map(figure, own))) for own in runs.values()]


def ratios(runs: dict[str, list[Measured]]) -> list[str]:
    """What the others take in units of this project's, and TRL at the best of its micro-batch sizes."""
    if OURS not in runs:
        return []

    def times(name: str, figure: Callable[[Measured], float]) -> float:
        return median(map(figure, runs[name])) / median(map(figure, runs[OURS]))

    best = sorted((name for name in runs if name.startswith("trl")), key=lambda name: times(name, seconds))
    return [
        f"{name}: {times(name, seconds):.2f} times the seconds of {OURS}, {times(name, peak):.2f} times its "
        f"peak memory ({times(name, own_peak):.2f} without what is there before the model)"
        for name in [*(name for name in runs if name == "naive"), *best[:1]]
    ]


def main() -> None:
    """Measure, print the tables, and write everything as JSON."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        workload = WORKLOADS[given.workload]
        model = write_model(workload.model, Path(folder) / "model", given.processor)
        if given.check:
            print(compare(workload, model))
            return
        runs: dict[str, list[Measured]] = {runner: [] for runner in given.runners}
        used = {"threads": given.threads, "trl": version("trl"), "workload": asdict(workload), "runs": runs}
        for repeat in range(given.repeats):
            for runner, own in runs.items():
                own.append(measure(runner, given.workload, model, given.threads))
                print(f"{repeat + 1}/{given.repeats} {runner}: {seconds(own[-1]):.1f} s", file=sys.stderr)
                if given.out:
                    write_result(given.out, "benchmarks.step", used)
    print(tables(runs))


def _runner(text: str) -> str:
    parse_runner(text)
    return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    runners = [OURS, "naive", "trl-8", "trl-4"]
    parser.add_argument(
        "--workload", choices=WORKLOADS, required=True, help="side-G-tokens; smoke: no figures"
    )
    parser.add_argument(
        "--runners",
        nargs="+",
        type=_runner,
        default=runners,
        help="programs; trl-8: micro-batches of 8 answers",
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds, whose medians count; default 5")
    parser.add_argument("--threads", type=int, default=1, help="of every program; default 1")
    parser.add_argument("--processor", type=Path, default=PROCESSOR, help="hub id or folder")
    parser.add_argument("--out", type=Path, help="JSON file, written anew after every measurement")
    parser.add_argument(
        "--check", action="store_true", help="compare log-probabilities and gradients instead, once"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
