import os
import sys

import pytest

from gpg_vl.cli.overwrite import delete_earlier_run
from gpg_vl.config import SftConfig
from gpg_vl.errors import ConfigurationError, RunFolderError
from gpg_vl.options import load_config
from gpg_vl.runs.folder import RunFolder


@pytest.fixture
def out(tmp_path):
    """The folder of a run with a checkpoint."""
    out = tmp_path / "run"
    with RunFolder.open(config(out), resume=False) as folder:
        (folder.checkpoints / "step_000002" / "state").mkdir(parents=True)
        (folder.checkpoints / "step_000002" / "model").mkdir()
    return out


def config(out, model="tiny"):
    return load_config(SftConfig, ["--out", str(out), "--model.path", str(model), "--data.train", "[d]"])


@pytest.fixture
def terminal(monkeypatch):
    """Types an answer on a real terminal."""
    keyboard, screen = os.openpty()
    with os.fdopen(screen) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda text: os.write(keyboard, text.encode())
    os.close(keyboard)


def test_without_a_terminal_the_flag_alone_is_enough(out, capsys, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        delete_earlier_run(config(out), [])
    assert os.listdir(out) == [".lock"]
    assert f"{out}: deleted an earlier run: 1 checkpoint up to step_000002 (" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["y", "Yes"])
def test_on_a_terminal_it_asks(out, terminal, capsys, answer):
    terminal(f"{answer}\n")
    delete_earlier_run(config(out), [])
    assert os.listdir(out) == [".lock"]
    assert "1 checkpoint up to step_000002" in capsys.readouterr().err.partition("Delete all of it? [y/N]")[0]


@pytest.mark.parametrize("answer", ["", "n", "yo"])
def test_anything_but_yes_deletes_nothing(out, terminal, answer):
    terminal(f"{answer}\n")
    with pytest.raises(RunFolderError, match="is left as it is"):
        delete_earlier_run(config(out), [])
    assert (out / "checkpoints" / "step_000002" / "model").is_dir()


def test_only_the_first_process_of_a_launch_deletes_and_none_asks(out, terminal, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    for rank, left in (("1", True), ("0", False)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        delete_earlier_run(config(out), [])
        assert (out / "checkpoints").exists() == left


def test_nothing_is_asked_where_there_is_nothing(tmp_path, terminal):
    delete_earlier_run(config(tmp_path / "new"), [])
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        delete_earlier_run(config(tmp_path / "file"), [])


def test_the_model_that_the_run_begins_from_is_not_deleted(out, terminal):
    terminal("y\n")
    with pytest.raises(ConfigurationError, match=r"would delete model\.path '.*step_000002/model'"):
        delete_earlier_run(config(out, out / "checkpoints" / "step_000002" / "model"), [])
    with (
        RunFolder.open(config(out), resume=True),
        pytest.raises(RunFolderError, match="is in use by another"),
    ):
        delete_earlier_run(config(out), [])
    assert (out / "checkpoints" / "step_000002" / "model").is_dir()
