import json
import shutil
from pathlib import Path

import pytest

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.errors import ConfigurationError, RunFolderError
from gpg_vl.options import load_config
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.resume import WRITTEN_AT_START, check_unused
from gpg_vl.runtime.files import replacing
from gpg_vl.types import Sample


@pytest.fixture
def config(tmp_path):
    """A configuration whose run folder is in `tmp_path`."""

    def make(*options, kind=TrainConfig):
        out = ["--out", str(tmp_path / "runs" / "first"), "--model.path", "tiny", "--data.train", "[d]"]
        return load_config(kind, [*out, *options])

    return make


def start(given):
    """A run that has saved a checkpoint and ended."""
    with RunFolder.open(given, resume=False) as folder:
        (folder.checkpoints / "step_000001" / "state").mkdir(parents=True)
    return folder


def test_a_new_folder_says_what_was_used(config):
    given = config("--rollout.group_size", "4")
    with RunFolder.open(given, resume=False) as folder:
        assert load_config(TrainConfig, ["--config", str(folder.path / "config.yaml")]) == given
        environment = json.loads((folder.path / "environment.json").read_text())
    assert {"gpg-vl", "torch", "transformers"} <= set(environment["packages"])
    assert folder.checkpoints == folder.path / "checkpoints"


def test_an_existing_run_is_refused_without_resume(config):
    folder = start(config())
    with pytest.raises(RunFolderError, match=r"exists and is not empty.*--resume auto"):
        RunFolder.open(config(), resume=False)
    with RunFolder.open(config(), resume=True) as again:
        assert again.path == folder.path


def test_an_empty_folder_may_be_used_and_a_file_may_not(config, tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    start(config())
    (tmp_path / "file").write_text("mine")
    for resume in (False, True):
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(RunFolderError):
                RunFolder.open(config("--out", str(out)), resume=resume)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_use_is_refused(config):
    start(config())
    with RunFolder.open(config(), resume=True):
        for _ in range(2):
            with pytest.raises(RunFolderError, match="is in use by another run"):
                RunFolder.open(config(), resume=True)
    with RunFolder.open(config(), resume=True):  # the lock ends with the run
        pass


@pytest.mark.parametrize("name", WRITTEN_AT_START)
def test_a_folder_is_free_for_a_process_that_looks_while_the_first_one_writes(config, name):
    """Of a launch that starts one run after another; nor is there more after a kill at that moment."""
    out = config().out
    with replacing(Path(out) / name) as temporary:
        temporary.touch()
        check_unused(out)
        temporary.with_name(f".mine-{name}.tmp").touch()
        with pytest.raises(RunFolderError, match="exists and is not empty"):
            check_unused(out)


def test_a_folder_below_a_file_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"cannot write to '.*/file/a/b': '.*/file' is a file"):
        check_unused(str(tmp_path / "file" / "a" / "b"))


def test_a_failed_start_leaves_no_lock_behind(config):
    start(config())
    with pytest.raises(ConfigurationError):
        RunFolder.open(config("--run.seed", "1"), resume=True)
    with RunFolder.open(config(), resume=True):
        pass


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rollout.group_size", "4"], "rollout.group_size was 8, now 4"),
        (["--run.seed", "3"], "run.seed was 0, now 3"),
        (["--optim.betas", "[0.9, 0.9]"], r"optim.betas was \[0.9, 0.999\], now \[0.9, 0.9\]"),
        (["--rewards", '{"choice": 1.0}'], "rewards.format was 1.0, now None"),
        (["--rewards.number", "1"], "rewards.number was None, now 1"),
        (["--data.train", "[other]"], r"data.train was \['d'\], now \['other'\]"),
        (["--run.seed", "3", "--model.path", "other"], "model.path was 'tiny', now 'other'; run.seed was 0"),
    ],
)
def test_changed_settings_of_a_resumed_run_are_named(config, options, named):
    file = start(config()).path / "config.yaml"
    before = file.read_text()
    with pytest.raises(ConfigurationError, match=f"started with other settings: {named}"):
        RunFolder.open(config(*options), resume=True)
    assert file.read_text() == before


@pytest.mark.parametrize(
    "options",
    [
        ["--run.steps", "500"],
        ["--run.save_every", "7", "--run.keep_last", "5"],
        ["--run.threads", "1", "--run.trackers", "[tensorboard]"],
        ["--eval.max_new_tokens", "10", "--eval.limit", "3"],
        ["--model.compile", "true", "--model.gradient_checkpointing", "true"],
        ["--run.micro_batch_tokens", "64", "--run.packing", "none", "--rollout.max_concurrent", "8"],
    ],
)
def test_what_does_not_change_the_run_may_change(config, options):
    start(config())
    with RunFolder.open(config(*options), resume=True) as folder:
        assert load_config(TrainConfig, ["--config", str(folder.path / "config.yaml")]) == config(*options)


def test_the_same_places_written_otherwise_are_no_other_settings(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = ("--model.path", "tiny/", "--data.train", "d", "--rewards", '{"my.py:f": 1, "choice": 1}')
    start(config(*before))
    again = ("--model.path=~/tiny", "--data.train", str(tmp_path / "d") + "/", "--rewards")
    with RunFolder.open(config(*again, '{"./my.py:f": 1.0, "choice": 1.0}'), resume=True):
        pass
    with pytest.raises(ConfigurationError, match=r"data\.train was"):
        RunFolder.open(config(*before, "--data.train", "[d, d]"), resume=True)


@pytest.mark.parametrize("text", ["", "run: {", "run: 1\nrun: 2", "- a"])
def test_a_damaged_configuration_is_named(config, text):
    folder = start(config())
    (folder.path / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.yaml"):
        RunFolder.open(config(), resume=True)


def test_a_moved_folder_goes_on(config, tmp_path):
    folder = start(config())
    moved = folder.path.rename(tmp_path / "moved")
    with RunFolder.open(config("--out", str(moved)), resume=True):
        pass


def test_before_the_first_checkpoint_settings_may_change(config):
    with RunFolder.open(config(), resume=False):
        pass
    with RunFolder.open(config("--run.seed", "3"), resume=True):
        pass


def test_a_set_that_was_prepared_anew_is_refused(config, tmp_path):
    def prepared(question):
        sample = Sample("line-1", "t", question, "(A)", "choice", ("a", "b"))
        write_prepared([sample], data, source="", converter="c", version="1")

    data = tmp_path / "data"
    prepared("old?")
    given = config("--data.train", f"[{data}]")
    start(given)
    for question in ("old?", "new?"):
        shutil.rmtree(data)
        with RunFolder.open(given, resume=True):  # without the set: the hash stays noted
            pass
        prepared(question)
        if question == "new?":
            with pytest.raises(
                ConfigurationError, match=r"first' was trained on other rows of '.*data', prep"
            ):
                RunFolder.open(given, resume=True)
        else:
            with RunFolder.open(given, resume=True):
                pass
    (Path(given.out) / "environment.json").unlink()  # nothing is known
    with RunFolder.open(given, resume=True):
        pass


def test_a_folder_of_the_other_command_is_refused(config):
    start(config(kind=SftConfig))
    with pytest.raises(ConfigurationError, match="the command was sft, now train"):
        RunFolder.open(config(), resume=True)


def test_steps_may_grow_only_where_the_schedule_does_not_end_there(config):
    start(config("--optim.schedule", "cosine"))
    with pytest.raises(ConfigurationError, match=r"run\.steps was 100, now 500"):
        RunFolder.open(config("--optim.schedule", "cosine", "--run.steps", "500"), resume=True)
