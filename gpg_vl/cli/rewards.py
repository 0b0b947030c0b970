"""The `gpg-vl rewards` commands: parse, call, print."""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace

from gpg_vl.checks import expand
from gpg_vl.cli.before import at_least, check_files, check_new
from gpg_vl.cli.dispatch import Command, dispatch
from gpg_vl.data.manifest import check_prepared
from gpg_vl.errors import ConfigurationError
from gpg_vl.options import base_parser, load_config
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.registry import CONCURRENCY, Reward, origin
from gpg_vl.registry import rewards as registry
from gpg_vl.tables import markdown_table, short_number
from gpg_vl.types import AnswerType, Sample

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.

if TYPE_CHECKING:
    from gpg_vl.scoring.audit import Audit
    from gpg_vl.scoring.score_rows import Tally

_NAME = "NAME, file.py:name or module:name"
_ENTRY = f"{_NAME}; with =WEIGHT or ='{{weight: 0.5, option: …}}' as in a configuration"


def rewards(arguments: list[str]) -> None:
    """List and show rewards, score a file of answers, audit a reward before training."""
    dispatch("gpg-vl rewards", COMMANDS, arguments)


def _parser(command: str, description: str) -> ArgumentParser:
    return base_parser(f"gpg-vl rewards {command}", description)


def list_rewards(arguments: list[str]) -> None:
    """List the rewards that installed packages announce."""
    _parser("list", list_rewards.__doc__ or "").parse_args(arguments)
    entries = [_entry(name) for name in sorted(registry.announced())]
    print(markdown_table(("name", "kind", "from", "what it is"), entries))


def _entry(name: str) -> tuple[str, str, str, str]:
    """One row of the list; a reward that cannot be had says why, and hides no other."""
    points = registry.announced()[name]
    places = " and ".join(map(origin, points))
    if len(points) > 1:
        return name, "conflict", places, "refused: uninstall all but one, or name it module:name"
    try:
        reward = registry.get(name)
    except (ConfigurationError, ImportError, AttributeError) as error:
        return name, "broken", places, str(error)
    return name, reward.kind, places, _docstring(reward).partition("\n")[0]


def _docstring(reward: Reward) -> str:
    return inspect.getdoc(reward.function) or "(no docstring)"


def show(arguments: list[str]) -> None:
    """Show a reward, or all of a file: what it is, its options, where it comes from."""
    parser = _parser("show", show.__doc__ or "")
    parser.add_argument("name", type=expand, help=f"{_NAME}; or file.py for every reward in it")
    name = parser.parse_args(arguments).name
    if name.endswith(".py"):
        own = registry.in_file(name)
        print("\n\n\n".join(_shown(reward, f"{name}:{inner}") for inner, reward in own.items()))
        return
    places = " and ".join(map(origin, registry.announced().get(name, ())))
    print(_shown(registry.get(name), places or name))


def _shown(reward: Reward, place: str) -> str:
    """All that is known of a reward, line by line, its docstring last."""
    lines = [
        f"{reward.name} ({reward.kind})",
        f"  from      {place}",
        f"  answers   {'all of a group at once, as in TRL' if reward.is_batch else 'one at a time'}",
        f"  runs      {_runs(reward)}",
        f"  deadline  {_deadline(reward)}",
        f"  images    {'read' if reward.images else 'not read: worker processes get their size'}",
        f"  range     {list(reward.bounds) if reward.bounds else 'not declared'}",
        f"  options   {', '.join(map(str, reward.options.values())) or 'none'}",
    ]
    return "\n".join([*lines, "", _docstring(reward)])


def _deadline(reward: Reward) -> str:
    return (
        f"{reward.deadline} s {'a group' if reward.is_batch else 'an answer'}" if reward.deadline else "none"
    )


def _runs(reward: Reward) -> str:
    """Where, and how many calls at a time."""
    if reward.is_async or reward.concurrency:
        how = "async" if reward.is_async else "in threads"
        return f"{how}, {reward.concurrency or CONCURRENCY} calls at a time"
    if reward.workers:
        return f"in {reward.workers} worker processes of its own"
    return "in worker processes" if reward.deadline else "one call after the other"


def score(arguments: list[str]) -> None:
    """Score a file of answers: lines, a run's rollouts/step_*.parquet, or an evaluation's JSON."""
    parser = _parser("score", score.__doc__ or "")
    parser.add_argument("--reward", action="append", required=True, help=f"{_ENTRY}; repeat for several")
    parser.add_argument(
        "--file",
        required=True,
        type=expand,
        help="rollouts (Parquet), an evaluation (JSON), or JSON lines, flat or with `sample`, which has "
        "`answer` and `answer_type` (or choices), and may have id, task, "
        "question, choices, images (paths from the file's folder) and meta; a row may have token_count "
        "(default: its words), finish_reason (default: eos) and think_opened (default: false)",
    )
    parser.add_argument(
        "--out", type=expand, help='file for the rows with "scores": {"NAME": 0.5}; must not exist'
    )
    parser.add_argument(
        "--box_space",
        choices=["image", "grid"],
        default="image",
        help="boxes in answers: pixels of the image, or 0-1000 along each side (needs images or meta.size)",
    )
    parser.add_argument(
        "--data",
        nargs="*",
        default=[],
        type=expand,
        help="folders written by `gpg-vl prepare` that rollouts or an evaluation are of; default: their own",
    )
    given = parser.parse_args(arguments)
    check_new(given.out, "--out")
    check_files([given.file])
    for folder in given.data:
        check_prepared(folder)
    from gpg_vl.runtime.progress import ProgressBar
    from gpg_vl.scoring.answer_files import count_answers
    from gpg_vl.scoring.score_rows import score_file
    from gpg_vl.scoring.scorer import Scorer

    path, scorer = Path(given.file), Scorer(_reward_table(given.reward))
    with ProgressBar("score", count_answers(path)) as bar:
        tallies = score_file(
            scorer, path, given.box_space, Path(given.out) if given.out else None, bar.advance, given.data
        )
    header = ("reward", "rows", "mean", "standard deviation", "min", "max", "not gradable")
    print(markdown_table(header, [_spread(name, tally) for name, tally in tallies.items()]))
    _print_counts()


def _print_counts() -> None:
    """What the rewards counted, if they did."""
    from gpg_vl.scoring.counters import counts_text, taken

    if counts := taken():
        print(f"\n{counts_text(counts)}")


def _spread(name: str, tally: "Tally") -> tuple[str, ...]:
    """Figures of one reward; the deviation is the sample's, which two scores are needed for."""
    scores = tally.scores
    mean, least, most = (f(scores) if scores else None for f in (fmean, min, max))
    figures = (mean, stdev(scores) if len(scores) > 1 else None, least, most)
    shown = ("–" if figure is None else short_number(figure) for figure in figures)
    return name, str(len(scores) + tally.dropped), *shown, str(tally.dropped)


def _reward_table(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A configuration's table of rewards from words such as `choice`, `choice=0.5` and `x={limit: 3}`."""
    table: dict[str, dict[str, Any]] = {}
    for word in words:
        name, named, text = word.partition("=")
        name = expand(name)
        if name in table:
            raise ConfigurationError(f"the reward {name!r} is named twice")
        table[name] = _options(word, text) if named else {}
    return table


def _options(word: str, text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{word}: {error}") from error
    if isinstance(value, dict):
        return value
    if isinstance(value, int | float):
        return {"weight": value}
    raise ConfigurationError(
        f"{word}: expected a weight such as 0.5, or a table such as '{{weight: 0.5, limit: 3}}', after the ="
    )


def audit(arguments: list[str]) -> None:
    """Try to fool a reward, or a recipe's sum of rewards: exit code 1 if a trick does."""
    parser = _parser("audit", audit.__doc__ or "")
    parser.add_argument("name", nargs="?", help=f"a reward: {_ENTRY}")
    parser.add_argument(
        "--config", type=expand, help="YAML file of `gpg-vl train`: its weighted sum, on its own data"
    )
    parser.add_argument(
        "--data",
        type=expand,
        help="folder written by `gpg-vl prepare`; default: the file's, or built-in samples",
    )
    parser.add_argument("--limit", type=int, default=20, help="samples of the data per task")
    parser.add_argument(
        "--answer_type", choices=list(get_args(AnswerType)), help="samples of this type alone; default: all"
    )
    parser.add_argument(
        "--prompt", choices=["instruct", "base"], help="template; default: the file's, or instruct"
    )
    given = parser.parse_args(arguments)
    if (given.name is None) == (given.config is None):
        raise ConfigurationError("name either a reward or a --config: gpg-vl rewards audit NAME")
    at_least(1, given.limit, "--limit")
    if given.data is not None:
        check_prepared(given.data)
    from gpg_vl.scoring.audit_text import audit_text

    audits = _audit_config(given) if given.config else [_audit_reward(given)]
    print("\n\n".join(map(audit_text, audits)))
    _print_counts()
    if any(one.failed for one in audits):
        sys.exit(1)


def _audit_reward(given: Namespace) -> "Audit":
    from gpg_vl.scoring.audit import audit_reward

    [(name, entry)] = _reward_table([given.name]).items()
    samples = _samples([given.data] if given.data else [], given)
    prompt = Prompt(given.prompt or "instruct")
    return audit_reward(name, entry, samples, prompt, own_data=bool(given.data), bar=True)


def _audit_config(given: Namespace) -> "list[Audit]":
    from gpg_vl.config import TrainConfig
    from gpg_vl.scoring.audit import audit_table

    # Recipes leave these open; those of a file win, since they come after.
    open_ones = ("--out", "unset", "--model.path", "unset", "--data.train", "unset")
    config = load_config(TrainConfig, [*open_ones, "--config", given.config])
    folders = [given.data] if given.data else [name for name in config.data.train if Path(name).is_dir()]
    prompt = replace(config.prompt, template=given.prompt) if given.prompt else config.prompt
    samples = _samples(folders, given)
    return audit_table(config.rewards, samples, prompt, own_data=bool(folders), bar=True)


def _samples(folders: list[str], given: Namespace) -> list[Sample]:
    """The first `--limit` samples of each task in the folders, or the built-in ones."""
    from gpg_vl.scoring.audit_samples import built_in_samples, prepared_samples

    samples = prepared_samples(folders, given.limit) if folders else built_in_samples()
    kept = [sample for sample in samples if given.answer_type in (None, sample.answer_type)]
    if not kept:
        raise ConfigurationError(f"no samples of answer type {given.answer_type!r} in {', '.join(folders)}")
    print(f"{len(kept)} samples: {', '.join(folders) or 'built in'}\n")
    return kept


COMMANDS: dict[str, Command] = {
    "list": list_rewards,
    "show": show,
    "score": score,
    "audit": audit,
}
