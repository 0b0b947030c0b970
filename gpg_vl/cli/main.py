"""The command line: parse, call, print."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

import gpg_vl
from gpg_vl.checks import expand
from gpg_vl.cli.before import check_folder, check_new
from gpg_vl.cli.data import data, prepare
from gpg_vl.cli.dispatch import Command, dispatch
from gpg_vl.cli.evaluation import compare, evaluate
from gpg_vl.cli.families import list_families
from gpg_vl.cli.going_on import going_on
from gpg_vl.cli.launch import launch_options, take_launch_options
from gpg_vl.cli.overwrite import OPTION, delete_earlier_run
from gpg_vl.cli.preflight import preflight
from gpg_vl.cli.quiet import quiet_libraries, quiet_transformers
from gpg_vl.cli.rewards import rewards
from gpg_vl.cli.serve import serve
from gpg_vl.errors import RewardError, UserError
from gpg_vl.options import base_parser, plain_words
from gpg_vl.quickstart.tour import Tour, seeded
from gpg_vl.runtime.launched import launched, place

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.

GROUP = "gpg_vl.commands"
"""Entry points of further commands; each is a `Command`."""
TRACEBACK = "GPG_VL_TRACEBACK"
"""Environment variable: print the whole traceback of a reward's bug."""
_HEAD_START = 5.0  # seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit codes: 0 done, 1 a bug (with its traceback), 2 a mistake of the user, 130
    interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(arguments)
    except ArgumentError as error:
        sys.exit(_fail(plain_words(str(error))))
    except UserError as error:
        sys.exit(_fail(str(error)))
    except RewardError as error:
        sys.exit(_fail_in_reward(error))
    except KeyboardInterrupt:
        print("\n" + "; ".join(filter(None, ("interrupted", going_on(arguments)))), file=sys.stderr)
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"gpg-vl {gpg_vl.__version__}")
        return
    quiet_libraries()
    _grow_segments()
    dispatch("gpg-vl", COMMANDS if arguments[:1] and arguments[0] in COMMANDS else _commands(), arguments)


def _grow_segments() -> None:
    """Let torch's memory on a GPU grow in place: answers and micro-batches of many lengths would leave gaps.

    Read when torch is imported; PYTORCH_CUDA_ALLOC_CONF goes before this name, so either is the user's.
    """
    if sys.platform == "linux":  # elsewhere CUDA cannot, and torch warns
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def _commands() -> Mapping[str, Command]:
    """Our own, and those that packages announce, which are imported for it: the app is one."""
    announced = {point.name: point.load() for point in entry_points(group=GROUP)}
    return {**COMMANDS, **announced, **COMMANDS}


def _fail(message: str) -> int:
    """Print a mistake of the user; of a machine's processes only the first does, where it finds it too.

    Its exit then ends the others while they wait.
    """
    here = launched()
    if here is not None and here.local_rank:
        time.sleep(_HEAD_START)
    line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode()
    print(f"gpg-vl: error: {line}", file=sys.stderr)
    return 2


def _fail_in_reward(error: RewardError) -> int:
    """Print a bug in a reward in five lines at most, the last with its place; its traceback goes to a file,
    or where TRACEBACK is set to the terminal."""
    lines = str(error).splitlines()
    if os.environ.get(TRACEBACK):
        print(error.trace, file=sys.stderr)
    elif error.trace:
        with NamedTemporaryFile("w", prefix="gpg-vl-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(error.trace)
        lines.insert(-1, f"  whole traceback: {file.name}, or set {TRACEBACK}=1")
    print("\n".join(["gpg-vl: error: " + lines[0], *lines[1:]]), file=sys.stderr)
    return 1


def _parser(command: str, description: str) -> ArgumentParser:
    return base_parser(f"gpg-vl {command}", description)


def quickstart(arguments: list[str]) -> None:
    """Make scenes and a small model, warm it up, train it with GPG and report; no network, no GPU."""
    parser = _parser("quickstart", quickstart.__doc__ or "")
    place()  # before torch is imported
    parser.add_class_arguments(Tour, None, skip={"reasoning"})
    words = "also questions of several steps, answered with and without writing the steps down"
    parser.add_argument("--reasoning", action="store_true", help=words)
    words = "several in place of --seed, each in a folder of its own, and what they say together"
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=words)
    given = vars(parser.parse_args(arguments))
    seeds, tour = given.pop("seeds"), Tour(**given)
    tours = seeded(tour, seeds) if seeds else []
    from gpg_vl.quickstart.run import run_quickstart
    from gpg_vl.quickstart.seeds import run_seeds

    quiet_transformers()
    work = (lambda: run_seeds(tour.out, tours)) if tours else (lambda: run_quickstart(tour))
    _stoppable(tour.out, ["quickstart", *arguments], work)


def _stoppable(out: str, command: Sequence[str], work: Callable[[], None]) -> None:
    """Run `command`'s work; a stop on request has saved everything and is no failure."""
    from gpg_vl.runtime.shutdown import Stopped

    try:
        work()
    except Stopped as stopped:
        if _speaks():
            print(f"{out}: {stopped}, everything is saved; {going_on(command)}")


def _speaks() -> bool:
    """Whether this process speaks for all of a launch."""
    here = launched()
    return here is None or here.rank == 0


def sft(arguments: list[str]) -> None:
    """Fine-tune on gold answers: the warm start, and the paper's +SFT row."""
    from gpg_vl.config import SftConfig

    _train(arguments, "sft", SftConfig, "gpg_vl.training.warmstart")


def train(arguments: list[str]) -> None:
    """Train with GPG, or with GRPO or Dr. GRPO in the same loop."""
    from gpg_vl.config import TrainConfig

    _train(arguments, "train", TrainConfig, "gpg_vl.training.train")


def _train(arguments: list[str], command: str, kind: Any, module: str) -> None:
    from importlib import import_module

    from gpg_vl.options import parse_command
    from gpg_vl.training.surroundings import check_run

    launch, arguments = take_launch_options(arguments)
    config, resume = parse_command(kind, arguments, prog=f"gpg-vl {command}", taken=launch_options())
    overwrite = OPTION in arguments
    check_run(config, resume, overwrite=overwrite, launching=launch is not None)
    if overwrite:
        delete_earlier_run(config, arguments)
        arguments = [word for word in arguments if word != OPTION]
    if launch is not None:
        sys.exit(launch.run(command, arguments, config.run.shutdown_grace))
    quiet_transformers()
    from gpg_vl.runs.best import best_words

    run = getattr(import_module(module), command)

    def work() -> None:
        model = run(config, resume=resume)
        if _speaks():
            print(f"model: {model}")
            report([config.out])
            checkpoints = model.parents[1]
            if words := best_words(Path(config.out), checkpoints, config.run.best_by, config.model.path):
                print(words)

    _stoppable(config.out, [command, *arguments], work)


def merge(arguments: list[str]) -> None:
    """Make full weights of a LoRA checkpoint, with its processor and gpg_vl.json."""
    parser = _parser("merge", merge.__doc__ or "")
    parser.add_argument(
        "checkpoint", type=expand, help="model folder of a checkpoint, with adapter_config.json"
    )
    parser.add_argument("--out", required=True, type=expand, help="folder to write; must not exist")
    given: Namespace = parser.parse_args(arguments)
    check_new(given.out, "--out")
    check_folder(given.checkpoint, "checkpoint")
    from gpg_vl.model import adapt

    quiet_transformers()
    adapt.merge(given.checkpoint, Path(given.out))
    print(f"{given.out}: full weights of {given.checkpoint}")


def report(arguments: list[str]) -> None:
    """Write a run's report.html: curves, base against trained, sample answers."""
    parser = _parser("report", report.__doc__ or "")
    parser.add_argument("run", type=expand, help="run folder")
    parser.add_argument("--other", nargs="*", default=[], type=expand, help="run folders to show beside it")
    given: Namespace = parser.parse_args(arguments)
    for folder in (given.run, *given.other):
        check_folder(folder, "run folder")
    from gpg_vl.report.report import write_run_report

    # Runs are told apart by their folders' names, or by their whole paths where those are equal.
    names = [Path(path).resolve().name for path in (given.run, *given.other)]
    unique = len(set(names)) == len(names)
    others = {Path(path).name if unique else path: Path(path) for path in given.other}
    print(f"report: {write_run_report(Path(given.run), others)}")


def env(arguments: list[str]) -> None:
    """Print versions and hardware in one block, for bug reports."""
    _parser("env", env.__doc__ or "").parse_args(arguments)
    from gpg_vl.environment import as_block, environment

    print(as_block(environment()))


COMMANDS: dict[str, Command] = {
    "quickstart": quickstart,
    "prepare": prepare,
    "data": data,
    "preflight": preflight,
    "sft": sft,
    "train": train,
    "serve": serve,
    "eval": evaluate,
    "compare": compare,
    "merge": merge,
    "report": report,
    "rewards": rewards,
    "families": list_families,
    "env": env,
}
