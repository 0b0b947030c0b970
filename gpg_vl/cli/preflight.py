"""The command `gpg-vl preflight`: parse, call, print."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from gpg_vl.checks import expand
from gpg_vl.cli.before import check_new
from gpg_vl.cli.launch import add_launch_options, memory_plan, take_launch_options
from gpg_vl.cli.quiet import quiet_transformers
from gpg_vl.config import TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.options import config_parser, parse_options
from gpg_vl.preflight.findings import UNSET
from gpg_vl.runtime.files import write_whole

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.

if TYPE_CHECKING:
    from rich.console import Console

    from gpg_vl.preflight.findings import Report

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
_WIDTH = 120
"""Columns where there is no terminal."""


def preflight(arguments: list[str]) -> None:
    """Check a training configuration before it costs a GPU hour; exit code 1 if it would fail."""
    launch, arguments = take_launch_options(arguments)
    parser = config_parser(TrainConfig, "gpg-vl preflight")
    add_launch_options(parser)
    _add_options(parser)
    config, given = parse_options(TrainConfig, parser, ["--out", UNSET, *arguments])
    _check(config, given)
    from gpg_vl.preflight.model import Trial
    from gpg_vl.preflight.plan import Machine
    from gpg_vl.preflight.preflight import preflight as run
    from gpg_vl.preflight.preflight import report_dict

    quiet_transformers()
    trial = None if given.no_model else Trial(given.questions, given.samples or config.rollout.group_size)
    processes, zero, offload = memory_plan(launch) if launch else (1, 0, False)
    machine = Machine(processes, zero, offload, given.card_gib)
    report = run(config, machine, trial, resume=given.resume is not None, ways=given.ways)
    _print(report)
    if "ways" in report.figures:
        _print_ways(report.figures["ways"])
    if given.report:
        text = json.dumps(report_dict(report, config), indent=1, ensure_ascii=False)
        write_whole(Path(given.report), text)
    if report.failed:
        sys.exit(1)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--no-model", action="store_true", help="only what needs no weights; no downloads")
    parser.add_argument("--questions", type=int, default=16, help="questions that the model is asked")
    parser.add_argument("--samples", type=int, default=0, help="answers to each; 0 takes rollout.group_size")
    parser.add_argument(
        "--card_gib", type=float, default=0.0, help="memory of a card in GiB; 0 takes the GPU that is here"
    )
    parser.add_argument(
        "--ways", action="store_true", help="ways to train this model, and which cards they fit"
    )
    parser.add_argument(
        "--report", type=expand, help="JSON file with every finding and figure; must not exist"
    )


def _check(config: TrainConfig, given: Namespace) -> None:
    check_new(given.report, "--report")
    if given.questions < 1 or not 0 <= given.card_gib < float("inf"):
        raise ConfigurationError("--questions must be at least 1, --card_gib not negative")
    if given.samples < 0 or given.samples == 1:
        raise ConfigurationError(f"--samples must be at least 2, got {given.samples}: one answer is no group")


def _print(report: "Report") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("", "check", "found", "what to change"):
        table.add_column(column, overflow="fold")
    for one in report.findings:
        level = Text(one.level, style=_STYLES[one.level])
        table.add_row(level, one.check, Text(one.text), Text(one.cure))
    _console().print(table)


def _print_ways(ways: Sequence[Mapping[str, Any]]) -> None:
    """A table of ways and cards. `configured` is the peak as configured, `least` with as little at a time as
    there can be."""
    from rich.table import Table
    from rich.text import Text

    from gpg_vl.preflight.ways import CARDS

    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("way", "settings", "configured, GiB", "least, GiB", *CARDS):
        table.add_column(column, overflow="fold")
    for one in ways:
        settings = Text("\n".join(f"--{name} {_value(value)}" for name, value in one["settings"].items()))
        if "refused" in one:
            table.add_row(one["way"], settings, Text(one["refused"]))
            continue
        sizes = [f"{one[name] / 2**30:.1f}" for name in ("peak", "least")]
        table.add_row(one["way"], settings, *sizes, *(Text(_fits(card)) for card in one["cards"].values()))
    console = _console()
    console.print()
    console.print(table)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fits(card: Mapping[str, Any]) -> str:
    if not card["fits"]:
        return "no"
    return "\n".join(["yes", *(f"--{name} {value}" for name, value in card["less"].items())])


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)
