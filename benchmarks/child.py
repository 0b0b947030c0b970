"""One measured step in this process, for `benchmarks.step`."""

import argparse
import json
import re
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.phases import Phases, resident
from benchmarks.workloads import WORKLOADS

MODULES = {"gpg-vl": "benchmarks.ours", "naive": "benchmarks.naive", "trl": "benchmarks.trl_grpo"}
"""By name; `trl-8` is TRL with micro-batches of 8 answers."""


def parse_runner(text: str) -> tuple[str, dict[str, int]]:
    """A name of MODULES, and the options of its `run`. Raises ArgumentTypeError for anything else."""
    if found := re.fullmatch(r"(trl)-([1-9]\d*)", text):
        return found[1], {"batch": int(found[2])}
    if text == "trl" or text not in MODULES:
        raise argparse.ArgumentTypeError(f"unknown runner {text!r}; choose gpg-vl, naive or trl-ANSWERS")
    return text, {}


def main() -> None:
    """Run, and write what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runner")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    name, options = parse_runner(given.runner)
    module = import_module(MODULES[name])
    libraries, phases = resident(), Phases()
    module.run(WORKLOADS[given.workload], given.model, phases, **options)
    spent = {phase: asdict(spent) for phase, spent in phases.spent.items()}
    given.out.write_text(json.dumps({"libraries": libraries, "held": phases.held, "phases": spent}))


if __name__ == "__main__":
    main()
