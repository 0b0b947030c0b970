"""The command `data difficulty`: pass rates recorded beside a prepared set."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from gpg_vl.checks import expand
from gpg_vl.cli.before import at_least, check_folder, check_new
from gpg_vl.cli.launch import add_launch_options, take_launch_options
from gpg_vl.cli.quiet import quiet_transformers
from gpg_vl.config import DataConfig, RolloutConfig, RunConfig, TrainConfig
from gpg_vl.data.manifest import check_prepared
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.model.adapter_files import check_model
from gpg_vl.options import base_parser, load_config
from gpg_vl.prompting.card import asking_card
from gpg_vl.runtime.launched import place
from gpg_vl.scoring.scorer import Scorer

if TYPE_CHECKING:
    from gpg_vl.data.difficulty import Record

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.

_OWN = {"model", "benchmark", "data", "out", "rewards"}
"""Of EvalSettings: what this command asks otherwise, or not."""


def difficulty(arguments: list[str]) -> None:
    """Record how often a model, or a run's rollouts, answered each question right; or list the records."""
    launch, arguments = take_launch_options(arguments)
    if launch is None:
        place()  # a launch that is only half there is refused before torch is imported
    parser, given, config = _parse(arguments)
    check_prepared(given.folder)
    if not (given.model or given.run):
        _list_records(given.folder)
        return
    from gpg_vl.data.difficulty import record_file
    from gpg_vl.runs.pass_rates import record_name

    name = given.name or record_name(given.model or given.run)
    check_new(str(record_file(given.folder, name)), "--name")
    if given.reward:
        Scorer({given.reward: 1.0})
    settings = _settings(parser, given) if given.model else None
    if launch is not None and settings is not None:
        sys.exit(launch.run("data", ["difficulty", *arguments], RunConfig().shutdown_grace))
    record = _of_model(settings, name, given, config) if settings else _of_run(given, name)
    if record is not None:  # else another process of the launch has it
        _print_record(given.folder, record)


def _parse(arguments: list[str]) -> tuple[ArgumentParser, Any, TrainConfig | None]:
    """The options, over those of a training configuration if one is named."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.run and (given.model or given.config):
        raise ConfigurationError(
            "--run reads the answers of a run's rollouts, --model and --config ask a model: give one of them"
        )
    if given.config is None:
        return parser, given, None
    config = load_config(TrainConfig, ["--config", given.config])
    parser.set_defaults(
        {
            "model": config.model.path,
            "max_prompt_tokens": config.data.max_prompt_tokens,
            "samples": config.rollout.group_size,
            "temperature": config.rollout.temperature,
            "max_new_tokens": config.rollout.max_new_tokens,
        }
    )
    return parser, parser.parse_args(arguments), config


def _parser() -> ArgumentParser:
    parser = base_parser("gpg-vl data difficulty", difficulty.__doc__ or "")
    parser.add_argument("folder", type=expand, help="folder written by `gpg-vl prepare`")
    parser.add_argument("--model", type=expand, help="model folder or hub id to ask")
    parser.add_argument(
        "--config",
        type=expand,
        help="YAML file of `gpg-vl train`: ask its model with its prompt, image sizes, stop texts and "
        "rollouts; the options here override it",
    )
    parser.add_argument("--run", type=expand, help="run folder of `gpg-vl train`, whose rollouts are read")
    parser.add_argument("--name", help="of the record; default: the model's or the run's")
    parser.add_argument(
        "--reward",
        type=expand,
        help="reward that says what is right, from 0.5 on; default: the benchmark's grading, and with --run "
        "the run's only reward of kind correctness",
    )
    parser.add_argument(
        "--max_prompt_tokens",
        type=int,
        default=DataConfig().max_prompt_tokens,
        help="longer prompts (tokens, images included) are not asked, as in training",
    )
    parser.add_class_arguments(EvalSettings, None, skip=_OWN)
    rollout = RolloutConfig()  # what training asks with
    parser.set_defaults({"samples": rollout.group_size, "temperature": rollout.temperature, "top_p": 1.0})
    add_launch_options(parser)
    return parser


def _settings(parser: ArgumentParser, given: Any) -> EvalSettings:
    at_least(1, given.max_prompt_tokens, "--max_prompt_tokens")
    check_model(given.model)
    values = parser.instantiate(given)
    asked = {field.name: values[field.name] for field in fields(EvalSettings) if field.name not in _OWN}
    return EvalSettings(model=given.model, benchmark=given.folder, **asked)


def _of_model(settings: EvalSettings, name: str, given: Any, config: TrainConfig | None) -> "Record | None":
    from gpg_vl.evaluation.difficulty import measure_difficulty

    card = asking_card(config.prompt, config.model.pixels, config.rollout.stop) if config else None
    quiet_transformers()
    return measure_difficulty(
        settings, name, given.reward, card=card, max_prompt_tokens=given.max_prompt_tokens
    )


def _of_run(given: Any, name: str) -> "Record":
    from gpg_vl.data.difficulty import write_record
    from gpg_vl.runs.pass_rates import rollout_rates

    check_folder(given.run, "run folder")
    rates = rollout_rates(Path(given.run), given.folder, given.reward)
    about = {"model": given.run, "run": given.run, "reward": given.reward}
    return write_record(given.folder, name, rates, about)


def _list_records(folder: str) -> None:
    from gpg_vl.data.difficulty import read_record, record_names

    names = record_names(folder)
    if not names:
        raise ConfigurationError(
            f"{folder!r} has no record of pass rates: --model MODEL or --run RUN_DIR makes one"
        )
    for name in names:
        _print_record(folder, read_record(folder, name))


def _print_record(folder: str, record: "Record") -> None:
    from gpg_vl.data.difficulty import record_file
    from gpg_vl.evaluation.difficulty import difficulty_table

    counts = sorted({rate.samples for rate in record.rates.values()})
    answers = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    print(f"{record_file(folder, record.name)}: {answers} answers a question of {record.about['model']}")
    print(f"\n{difficulty_table(folder, record)}\n")
