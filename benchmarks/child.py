"""One measured step in this process, for `benchmarks.step`."""

import argparse
import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.phases import Phases, resident
from benchmarks.workloads import WORKLOADS

MODULES = {"gpg-vl": "benchmarks.ours", "naive": "benchmarks.naive", "trl": "benchmarks.trl_grpo"}
"""By name; `trl-8` is TRL with micro-batches of 8 answers."""


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
    name, _, batch = given.runner.partition("-") if given.runner.startswith("trl") else (given.runner, "", "")
    module = import_module(MODULES[name])
    libraries, phases = resident(), Phases()
    options = {"batch": int(batch)} if batch else {}
    module.run(WORKLOADS[given.workload], given.model, phases, **options)
    spent = {phase: asdict(spent) for phase, spent in phases.spent.items()}
    given.out.write_text(json.dumps({"libraries": libraries, "held": phases.held, "phases": spent}))


if __name__ == "__main__":
    main()
