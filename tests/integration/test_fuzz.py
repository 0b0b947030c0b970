"""Every option of every command with values that nobody means: one line and exit code 2, before torch.

The options are those that `--help` lists and the configurations have, so new ones are covered by themselves.
Nothing is ever trained, downloaded or written: each command also gets mistakes that stop it behind its
parser.
"""

import contextlib
import dataclasses
import datetime
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import set_parsing_settings

from gpg_vl.cli import data, rewards
from gpg_vl.cli.main import COMMANDS, main
from gpg_vl.config import SftConfig, TrainConfig
from tests.support.command_line import mistake

WORDS = (
    *(
        "",
        "x",
        "two words",
        "-1",
        "-1e-5",
        "0",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 40,
        "true",
        "null",
    ),
    *("[", "[]", "{}", "[[1]]", "{a: {b: c}}", "no/such.yaml", "~nobody-is-called-so/x", "\udcff", "é" * 300),
)
VALUES = (
    *(None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**40, "", "x", [], [None], [[1]], {}, {"a": {}}),
    *("~nobody-is-called-so/x", "a\0b", datetime.date(2024, 1, 2), b"bytes", {"a": float("nan")}, [True]),
)
_MANY = 30
STOPPED_BY = {
    "train": {"--out": "run", "--data.train": "nowhere", "--model.path": "./nowhere"},
    "sft": {"--out": "run", "--data.train": "nowhere", "--model.path": "./nowhere"},
    "preflight": {"--report": "/", "--questions": "0"},
    "eval": {"--model": "./nowhere", "--benchmark": "nonesuch"},
    "serve": {"--model": "./nowhere"},
    "quickstart": {"--steps": "0", "--held_out_rows": "0"},
    "prepare scenes": {"--out": "/", "--limit": "0"},
    "data show": {"": "nowhere", "--samples": "0"},
    "data overlap": {"": "nowhere nowhere"},
    "data difficulty": {"": "nowhere", "--samples": "0"},
    "compare": {"": "nowhere nowhere"},
    "merge": {"": "nowhere", "--out": "/"},
    "report": {"": "nowhere"},
    "rewards list": {"--nothing": "1"},
    "rewards show": {"": "nonesuch"},
    "rewards score": {"--reward": "nonesuch", "--file": "nowhere"},
    "rewards audit": {"": "nonesuch", "--data": "nowhere"},
    "families": {"--nothing": "1"},
    "env": {"--nothing": "1"},
    "demo": {"--base": "./nowhere", "--run": "nowhere"},
}
"""Mistakes by command that each stop it alone; one that has the option under test is left out."""


@pytest.fixture(autouse=True)
def no_help_texts(monkeypatch):
    """Thousands of parsers are built here, and each would read its help out of source files."""
    set_parsing_settings(docstring_parse_attribute_docstrings=False)
    monkeypatch.setattr("gpg_vl.options.set_parsing_settings", lambda **_: None)
    yield
    set_parsing_settings(docstring_parse_attribute_docstrings=True)


def test_every_command_is_here():
    groups = {"data": data.COMMANDS, "rewards": rewards.COMMANDS}
    known = {f"{name} {inner}" for name, group in groups.items() for inner in group}
    known |= {name for name in COMMANDS if name not in groups and name != "prepare"}
    assert set(STOPPED_BY) == known | {"prepare scenes", "demo"}


def options(command: str) -> list[str]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    names = dict.fromkeys(re.findall(r"^\s+(?:-\w, )?(--[\w.-]+)", text.getvalue(), re.MULTILINE))
    return [name for name in names if name not in ("--help", "--print_config", "--print_shtab")]


def stopped(command: str, but: str = "") -> list[str]:
    """The command with its own mistakes."""
    own = {name: value for name, value in STOPPED_BY[command].items() if name != but}
    return [
        *command.split(),
        *(word for name, value in own.items() for word in [name, *value.split()] if word),
    ]


def some(mistakes: Sequence[Any], place: int, options: int) -> Sequence[Any]:
    """All for a command of few options; of many, each has every third in turn, and together all."""
    return mistakes[place % 3 :: 3] if options > _MANY else mistakes


@pytest.mark.parametrize("command", STOPPED_BY)
def test_words(command, capsys):
    mistake(capsys, *stopped(command))
    found = options(command)
    assert set(STOPPED_BY[command]) - {"", "--nothing"} <= set(found)
    shared = set(options("train")) if command in ("sft", "preflight") else set()
    for name in found:
        if name in shared:
            continue
        base = stopped(command, but=name)
        mistake(capsys, *base, name)  # without a value; or a flag
        mistake(capsys, *base, f"{name}q", "1")
        for word in some(WORDS, found.index(name), len(found)):
            mistake(capsys, *base, name, word)
        for word in ("", "x", "-1e-5"):
            mistake(capsys, *base, f"{name}={word}")


def keys(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all that a file can set."""
    found = []
    for item in dataclasses.fields(kind):
        found.append(f"{prefix}{item.name}")
        if dataclasses.is_dataclass(item.type):
            found += keys(item.type, f"{prefix}{item.name}.")
    return found


OTHERS = [key for key in keys(SftConfig) if key not in keys(TrainConfig)]
FILES = [("train", key) for key in keys(TrainConfig)] + [("sft", key) for key in OTHERS]


@pytest.mark.parametrize(("command", "key"), FILES, ids=lambda value: value)
def test_values_in_a_file(command, key, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    base = stopped(command, but=f"--{key}")
    values = some(VALUES, FILES.index((command, key)), len(FILES))
    for name, value in [*((key, value) for value in values), (f"{key}q", 1)]:
        for part in reversed(name.split(".")):
            value = {part: value}
        file.write_text(yaml.safe_dump(value), encoding="utf-8")
        mistake(capsys, *base, "--config", str(file))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"---\n", "no table"),
        (b"- steps\n", "no table"),
        (b"words\n", "no table"),
        (b"run: {steps: 5}\n\nrun:\n  seed: 3\n", "line 3: 'run' stands in line 1 already"),
        (b"run:\n  steps: 5\n  steps: 6\n", "line 3: 'run.steps' stands in line 2 already"),
        (b"rewards: {by_task: {a: {choice: 1, choice: 2}}}", "'rewards.by_task.a.choice' stands in line 1"),
        (b"run:\n\tsteps: 5\n", "line 2, column 1"),
        (b"run: {steps: 5\n", "is not YAML"),
        (b"run: {steps: 5}\n---\nrun: {steps: 6}\n", "is not YAML"),
        (b"run: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        (b"out: 2024-13-45\n", "cannot be read as YAML"),
        (b"1: 2\n", "line 1: a key must be text, got '1'"),
        (b"run: {? [a] : 1}\n", "a key must be text"),
        (b"rewards: &all {choice: *all}\n", "'rewards.choice' contains itself"),
        (b"rewards: " + b"[" * 3000, "cannot be read as YAML"),
        (b"out: caf\xe9\n", "not text in UTF-8"),
        (b"\x7fELF\x02\x01\x00\x00\xff", "UTF-8"),
        (b"\x00\x01\x02", "is not YAML"),
        (b"config: other.yaml\n", "config belongs on the command line"),
        (b"run: {steps: 1:30}\n", "line 1: YAML reads 1:30 in base 60 or 8"),
        (b"run:\n  steps: 010\n", "line 2: YAML reads 010 in base 60 or 8"),
    ],
    ids=range(23),
)
def test_files_that_are_no_configuration(content, said, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    for command in ("train", "sft", "preflight"):
        assert said in mistake(capsys, *stopped(command), f"--config={file}")
    assert said in mistake(capsys, "rewards", "audit", "--config", str(file))


def test_a_folder_is_no_configuration(tmp_path, capsys):
    assert "cannot be read" in mistake(capsys, *stopped("train"), "--config", str(tmp_path))
    assert "no file" in mistake(capsys, *stopped("train"), "--config", str(tmp_path / "missing.yaml"))


def test_an_anchor_is_no_repetition(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("rewards:\n  by_task: {a: &both {choice: 1.0, format: 1.0}, b: *both}\n")
    assert "'nowhere' is not a prepared" in mistake(capsys, *stopped("train"), "--config", str(file))


HEAVY = ("torch", "transformers", "datasets", "accelerate", "scipy", "matplotlib", "gradio", "pandas")


@pytest.mark.parametrize("command", STOPPED_BY)
def test_a_mistake_is_told_before_seconds_of_imports(command, tmp_path):
    """As its own process; what it imported says more than a clock on a busy machine."""
    words = [sys.executable, "-X", "importtime", "-m", "gpg_vl", *stopped(command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, done.stdout, len(said)) == (2, "", 1), done.stderr[-2000:]
    assert "gpg_vl.cli.main" in imported and not imported & set(HEAVY)
    assert not list(Path(tmp_path).iterdir())
