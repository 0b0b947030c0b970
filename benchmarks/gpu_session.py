"""Everything that only a GPU tells, in nine minutes: attention, tests, decoding, training, memory, a quickstart.

python -m benchmarks.gpu_session --processor Qwen/Qwen2-VL-2B-Instruct --out runs/gpu.jsonl
python -m benchmarks.gpu_session --processor FOLDER --device cpu --small --out runs/gpu_small.jsonl
python -m benchmarks.gpu_session --report runs/gpu.jsonl

Random weights in the layer sizes of Qwen2-VL-2B, bf16 arithmetic, G 8, images of 616 pixels. Needs neither git
nor a network where the processor is a folder. Every stage is a process with a time limit of its own, whose
figures are appended to the file at once. `--small` is a tiny model: it shows that everything runs, and is no
measurement.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu_stages import STAGES, Place
from benchmarks.machine import commit
from benchmarks.scales import FULL, SMALL

_FORK = multiprocessing.get_context("fork")
"""All stages share one import of everything; nothing may touch the GPU before it forks."""
_TAIL = 1500
"""Characters kept of what a failed stage wrote."""


def run(given: argparse.Namespace, work: Path) -> None:
    """Run the chosen stages one behind the other until the time is up."""
    end = time.monotonic() + 60 * given.minutes
    scale = SMALL if given.small else FULL
    place = Place(torch.device(given.device), scale, given.small, given.processor, work)
    append(given.out, {"stage": "session", "command": " ".join(sys.argv), "commit": commit()})
    for name in given.stages:
        limit = min(STAGES[name][1], end - time.monotonic())
        if limit < 5:
            append(given.out, {"stage": name, "failed": "no time was left"})
            continue
        start = time.monotonic()
        failed = run_stage(name, place, given.out, limit)
        seconds = round(time.monotonic() - start, 1)
        append(given.out, {"stage": name, "seconds": seconds} | ({"failed": failed} if failed else {}))


def run_stage(name: str, place: Place, out: Path, limit: float) -> str:
    """Run a stage in a process of its own; returns the end of what it wrote if it failed."""
    with tempfile.TemporaryFile("w+") as output:
        child = _FORK.Process(target=_child, args=(name, place, out, output.fileno()))
        child.start()
        child.join(limit)
        if child.is_alive():
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
        output.seek(0)
        tail = output.read()[-_TAIL:]
    if child.exitcode == 0:
        return ""
    return f"exit status {child.exitcode}, {limit:.0f} s at most: {tail}"


def _child(name: str, place: Place, out: Path, output: int) -> None:
    os.setpgid(0, 0)  # with what it starts, so that a time limit ends all of it
    os.dup2(output, 1)
    os.dup2(output, 2)
    for figures in STAGES[name][0](place):
        append(out, {"stage": name} | figures)


def append(file: Path, line: dict[str, object]) -> None:
    """One line of the session's file, and of the terminal."""
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def main() -> None:
    """Run the session, or turn its file into tables."""
    given = _arguments()
    if given.report:
        raise SystemExit("not yet")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        run(given, Path(work))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor", help="hub id or folder")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    parser.add_argument("--report", type=Path, metavar="FILE", help="print the tables of such a file")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model and few rows")
    given = parser.parse_args()
    if not given.report and not (given.processor and given.out):
        parser.error("--processor and --out are needed")
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nobody takes a GPU that is here
    return given


if __name__ == "__main__":
    main()
