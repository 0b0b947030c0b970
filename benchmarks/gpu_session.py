"""What only a GPU tells, in nine minutes: attention, tests, decoding, training, memory, a quickstart.

python -m benchmarks.gpu_session --processor Qwen/Qwen2-VL-2B-Instruct --out runs/gpu.jsonl
python -m benchmarks.gpu_session --processor FOLDER --device cpu --small --out runs/gpu_small.jsonl
python -m benchmarks.gpu_session --report runs/gpu.jsonl

Random weights in the layer sizes of Qwen2-VL-2B, bf16 arithmetic, G 8, images of 616 pixels. Needs no git,
and no network where the processor is a folder. Every stage is a process with a time limit of its own, whose
figures are appended to the file at once. `--small` is a tiny model: it shows that everything runs, and is no
measurement.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.gpu_report import report
from benchmarks.stage_process import Figures, Record, run_stage

# Heavy imports (torch, transformers) stand inside `measure`: what a stage spawns imports this module too.

SECONDS = {
    "probe": 60,
    "model": 60,
    "decode": 120,
    "gradient": 60,
    "memory": 90,
    "tests": 150,
    "generate": 80,
    "lora": 80,
    "flex": 60,
    "compiled": 90,
    "memory_tests": 80,
    "quickstart": 90,
    "trace": 60,
    "decode_more": 90,
}
"""What each stage may take, in the order of what they teach: functions of `benchmarks.gpu_stages`."""
_PATIENCE = 4
"""Times as much on a CPU."""
MODEL = "model"
WITHOUT_MODEL = {"probe", "tests", "memory_tests", "quickstart"}
"""All others load what the stage `model` writes."""
_LEAST = 5.0
"""Seconds with which a stage is begun."""
_CHECK = 60.0
"""Seconds that looking for GPU and processor may take."""


def plan(chosen: Sequence[str]) -> list[str]:
    """The stages in the order given, each once, the model's before the first that needs it."""
    stages = list(dict.fromkeys(chosen))
    needing = [place for place, name in enumerate(stages) if name not in WITHOUT_MODEL]
    if needing and stages[needing[0]] != MODEL:
        stages.insert(needing[0], MODEL)
    return list(dict.fromkeys(stages))


def run(
    limits: Mapping[str, float],
    work: Callable[[str], Iterable[Figures]],
    record: Record,
    deadline: float,
) -> None:
    """Run `work` for one stage behind the other, each with its limit, until the deadline (monotonic time)."""
    failed: set[str] = set()
    for name, most in limits.items():
        start = time.monotonic()
        limit = min(most, deadline - start)
        result: Figures = {"failed": "interrupted"}
        try:
            if MODEL in failed and name not in WITHOUT_MODEL:
                result = {"failed": "there is no model"}
            elif limit < _LEAST:
                result = {"failed": "no time was left"}
            else:
                result = run_stage(name, lambda name=name: work(name), record, limit)
        finally:
            record.append({"stage": name, "seconds": round(time.monotonic() - start, 1)} | result)
        if result:
            failed.add(name)


def measure(given: argparse.Namespace, folder: Path, deadline: float) -> None:
    """The whole session; `folder` is for what nobody keeps. Exits where GPU or processor is missing."""
    from benchmarks import gpu_stages
    from benchmarks.machine import commit

    place = gpu_stages.place(given.device, given.small, given.processor, folder, given.out)
    stages, record = plan(given.stages), Record(given.out)
    needs_model = MODEL in stages
    if missing := run_stage("check", lambda: gpu_stages.check(place, needs_model), record, _CHECK):
        raise SystemExit(missing["failed"].removeprefix("exit status 1: "))
    origin = {"command": " ".join(["python -m benchmarks.gpu_session", *sys.argv[1:]]), "commit": commit()}
    record.append({"stage": "session", "stages": stages, "small": given.small} | origin)
    patience = 1 if given.device == "cuda" else _PATIENCE
    limits = {name: patience * SECONDS[name] for name in stages}
    run(limits, lambda name: getattr(gpu_stages, name)(place), record, deadline)


def main() -> None:
    """Run the session, or turn its files into tables."""
    deadline = time.monotonic()
    given = _arguments()
    if given.report:
        print(report(given.report))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stage that runs ends too
    given.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            measure(given, Path(folder), deadline + 60 * given.minutes)
    except KeyboardInterrupt:
        print(f"interrupted; what was measured is in {given.out}", file=sys.stderr)
        sys.exit(130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor", help="hub id or folder")
    parser.add_argument("--out", type=Path, help="file of JSON lines to append to")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="print the tables of such files, and stop"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=SECONDS,
        default=list(SECONDS),
        metavar="STAGE",
        help=", ".join(SECONDS),
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of everything; default: 9")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model and few rows")
    given = parser.parse_args()
    if not given.report and not given.out:
        parser.error("--out is needed, or --report with a file")
    if not given.report and MODEL in plan(given.stages) and not given.processor:
        parser.error("--processor is needed to make the model")
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nobody takes a GPU that is here
    return given


if __name__ == "__main__":
    main()
