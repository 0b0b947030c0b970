"""The commands `eval` and `compare`: parse, call, print."""

import json
import sys
from dataclasses import fields
from pathlib import Path

from gpg_vl.checks import expand, is_undecoded
from gpg_vl.cli.before import check_files, check_new
from gpg_vl.cli.launch import add_launch_options, take_launch_options
from gpg_vl.cli.quiet import quiet_transformers
from gpg_vl.config import RunConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.benchmarks import find_benchmark
from gpg_vl.evaluation.own_rewards import given_rewards
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.model.adapter_files import check_model
from gpg_vl.options import base_parser
from gpg_vl.runtime.launched import place
from gpg_vl.scoring.scorer import Scorer

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.


def evaluate(arguments: list[str]) -> None:
    """Evaluate a model on a benchmark, or on any prepared data; every item kept."""
    parser = base_parser("gpg-vl eval", evaluate.__doc__ or "")
    launch, arguments = take_launch_options(arguments)
    if launch is None:
        place()  # a launch that is only half there is refused before torch is imported
    add_launch_options(parser)
    parser.add_class_arguments(EvalSettings, None)
    for word in filter(is_undecoded, arguments):
        raise ConfigurationError(f"{word!r} is not text in UTF-8")
    given = parser.parse_args(arguments)
    values = parser.instantiate(given)
    settings = EvalSettings(**{field.name: values[field.name] for field in fields(EvalSettings)})
    check_model(settings.model)
    find_benchmark(settings.benchmark, settings.data)
    check_new(settings.out, "--out")
    if (table := given_rewards(settings.rewards)) is not None:
        Scorer(table)
    if launch is not None:
        sys.exit(launch.run("eval", arguments, RunConfig().shutdown_grace))
    from gpg_vl.evaluation.evaluate_model import evaluate_model
    from gpg_vl.evaluation.figures import evaluation_table

    quiet_transformers()
    evaluation = evaluate_model(settings)
    if evaluation is None:  # another process of the launch has it
        return
    if settings.out:
        print(f"items: {settings.out}")
    print(evaluation_table(evaluation))


def compare(arguments: list[str]) -> None:
    """Compare two evaluations of the same questions: paired difference, McNemar's test, flips."""
    parser = base_parser("gpg-vl compare", compare.__doc__ or "")
    parser.add_argument("a", type=expand, help="JSON file that `gpg-vl eval --out` wrote")
    parser.add_argument("b", type=expand, help="another one over the same questions")
    parser.add_argument(
        "--out",
        type=expand,
        help="JSON file with all flipped items; must not exist; default: no file",
    )
    given = parser.parse_args(arguments)
    check_files([given.a, given.b])
    check_new(given.out, "--out")
    from gpg_vl.evaluation.compare import compare as compared
    from gpg_vl.evaluation.compare import comparison_table
    from gpg_vl.runs.files import read_evaluation
    from gpg_vl.runtime.files import write_whole

    comparison = compared(read_evaluation(Path(given.a)), read_evaluation(Path(given.b)))
    if given.out:
        write_whole(Path(given.out), json.dumps(comparison, indent=1, ensure_ascii=False))
        print(f"items: {given.out}")
    print(comparison_table(comparison))
