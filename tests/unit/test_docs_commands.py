"""Every command in README and docs is one that the command line takes."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

import gpg_vl.cli.preflight
import gpg_vl.options
from gpg_vl.cli.main import main
from tests.support.pages import PAGES, ROOT, commands, page_id, words

CONFIGURED = ("gpg-vl train", "gpg-vl sft", "gpg-vl preflight")
OPEN = ("--out", "unset", "--model.path", "unset", "--data.train", "unset")
"""What a command with `…`, or with the config.yaml of a run, leaves to the reader."""
TYPED = [(page, command) for page in PAGES for command in commands(page)]


class Parsed(Exception):
    """The command line was understood."""


@pytest.fixture
def parse_only(monkeypatch):
    """Commands end once they have parsed their words, and checked the configuration that comes of them."""
    parse_options, parse_args = gpg_vl.options.parse_options, ArgumentParser.parse_args

    def options(*arguments):
        parse_options(*arguments)
        raise Parsed

    def args(parser, *arguments, **keywords):
        values = parse_args(parser, *arguments, **keywords)
        if parser.prog not in CONFIGURED:
            raise Parsed
        return values

    for module in (gpg_vl.options, gpg_vl.cli.preflight):
        monkeypatch.setattr(module, "parse_options", options)
    monkeypatch.setattr(ArgumentParser, "parse_args", args)
    monkeypatch.chdir(ROOT)


def complete(command: str, folder: Path) -> list[str]:
    """The words to parse, with what the reader fills in."""
    typed, left_open = words(command), "…" in command
    for place, word in enumerate(typed[1:], start=1):
        if typed[place - 1] == "--config" and not (ROOT / word).exists():
            typed[place] = str(folder / "config.yaml")
            (folder / "config.yaml").write_text("{}")
            left_open = True
    return [typed[0], *OPEN, *typed[1:]] if left_open and typed[0] in ("train", "sft", "preflight") else typed


@pytest.mark.parametrize(("page", "command"), TYPED, ids=[f"{page_id(p)}: {c[:60]}" for p, c in TYPED])
def test_the_command_line_takes_it(page, command, parse_only, tmp_path, capsys):
    try:
        main(complete(command, tmp_path))
    except Parsed:
        return
    except SystemExit as exit:
        assert not exit.code, capsys.readouterr().err
    assert {"--help", "--version"} & set(words(command)) or len(words(command)) == 1


@pytest.mark.parametrize(
    "command",
    [
        "train --out r --model.path m --data.train d --run.stepps 3",
        "train --out r --model.path m --data.train d --run.steps many",
        "train --out r --model.path m --data.train d --rollout.group_size 1",
        "eval --model m --benchmark b --sample 3",
        "prepare jsonl --source x --out y --validate",
        "rewards scores --file x",
        "evaluate --model m",
    ],
)
def test_a_mistake_would_be_seen(command, parse_only, tmp_path):
    with pytest.raises(SystemExit) as exit:
        main(complete(command, tmp_path))
    assert exit.value.code == 2


def test_commands_are_found():
    assert {page.name for page, _ in TYPED} >= {"README.md", "data.md", "rewards.md", "multi_node.md"}
    assert len(TYPED) > 70
