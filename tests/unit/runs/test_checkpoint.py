import random
import re

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from gpg_vl.errors import CheckpointError
from gpg_vl.runs.checkpoint import (
    TrainState,
    find_checkpoint,
    load_random_states,
    load_state,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from gpg_vl.runs.resume import list_checkpoints
from gpg_vl.runs.states import write_state
from gpg_vl.runtime.parallel import World


def state(step, optimizer=None):
    return TrainState(step, 16 * step, optimizer or {})


def save_shards(path):
    torch.save(random_states(), path / "random_00000.pt")


def save_model(path):
    path.mkdir()
    (path / "weights").write_text("whole")


def save(folder, step, keep_last=9, model=save_model):
    return save_checkpoint(folder, state(step), model, save_shards, World(), keep_last=keep_last)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_holds_model_and_state(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    written = state(7, optimizer.state_dict())
    path = save_checkpoint(tmp_path / "checkpoints", written, save_model, save_shards, World(), keep_last=1)
    assert path == tmp_path / "checkpoints" / "step_000007"
    assert (path / "model" / "weights").read_text() == "whole"
    read = load_state(path, "whole")
    assert (read.step, read.consumed) == (7, 112)
    moments = read.optimizer["state"][0]["exp_avg"]
    assert torch.equal(moments, optimizer.state_dict()["state"][0]["exp_avg"])
    assert moments.abs().sum() > 0


def test_random_numbers_continue_where_they_were(tmp_path):
    before = random_states()
    try:
        path = save(tmp_path, 1)
        drawn = [random.random(), np.random.random(), torch.rand(1).item()]
        restore_random_states(load_random_states(path, 0))
        assert [random.random(), np.random.random(), torch.rand(1).item()] == drawn
    finally:
        restore_random_states(before)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file"),  # torch.save on a full disk
        SafetensorError("I/O error: No space left on device"),
    ],
)
def test_a_failed_save_leaves_the_older_ones_as_they_were(tmp_path, error):
    save(tmp_path, 1)
    save(tmp_path, 2)

    def full(path):
        path.mkdir()
        (path / "weights").write_text("half")
        raise error

    for step in (2, 3):  # over an older checkpoint, and as a new one
        with pytest.raises(
            CheckpointError, match=f"step_00000{step}.*older checkpoints are intact"
        ) as caught:
            save(tmp_path, step, keep_last=1, model=full)
        assert str(error) in str(caught.value)
        assert names(tmp_path) == ["step_000001", "step_000002"]
        assert (tmp_path / "step_000002" / "model" / "weights").read_text() == "whole"


def test_a_killed_save_is_no_checkpoint_and_is_removed_by_the_next(tmp_path):
    save(tmp_path, 1)

    def killed(path):
        path.mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, model=killed)
    assert find_checkpoint(tmp_path, "auto") == tmp_path / "step_000001"
    save(tmp_path, 3)
    assert names(tmp_path) == ["step_000001", "step_000003"]


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 9):
        save(tmp_path, step, keep_last=2)
    assert names(tmp_path) == ["step_000009", "step_000010"]
    save(tmp_path, 11, keep_last=1)
    assert names(tmp_path) == ["step_000011"]
    save(tmp_path, 11, keep_last=1)  # again
    assert names(tmp_path) == ["step_000011"]


def test_list_holds_complete_checkpoints_oldest_first(tmp_path):
    for step in (300, 20, 1):
        save(tmp_path, step)
    (tmp_path / "step_000400").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_000001", "step_000020", "step_000300"]
    assert list_checkpoints(tmp_path / "missing") == []


def test_find(tmp_path):
    assert find_checkpoint(tmp_path, "auto") is None
    assert find_checkpoint(tmp_path, None) is None
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    assert find_checkpoint(tmp_path, None) is None
    assert find_checkpoint(tmp_path, "auto") == second
    assert find_checkpoint(tmp_path / "other", str(first)) == first  # a new run may start anywhere
    with pytest.raises(CheckpointError, match="later checkpoints than step_000001: step_000002"):
        find_checkpoint(tmp_path, str(first))
    (second / "state" / "train_state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no state/train_state\.pt"):
        find_checkpoint(tmp_path, str(second))


def test_what_is_no_checkpoint_is_told_what_would_be_one(tmp_path):
    own, other = tmp_path / "own" / "checkpoints", tmp_path / "other" / "checkpoints"
    first = save(own, 1)
    newest = [save(other, step) for step in (1, 2)][-1]
    for wrong, cure in [
        ("latest", "--resume auto goes on with the newest of the run in --out"),
        ("true", "--resume auto goes on with the newest of the run in --out"),
        (own.parent, "--resume auto goes on with the run's newest"),
        (own, "--resume auto goes on with the run's newest"),
        (f"{own.parent}/", "--resume auto goes on with the run's newest"),
        (other.parent, f"the newest there is --resume {newest}"),
        (other, f"the newest there is --resume {newest}"),
        (own / "step_000003", f"the newest there is --resume {first}"),
        (first / "model", f"did you mean --resume {first}?"),
    ]:
        with pytest.raises(CheckpointError, match=re.escape(f"is not a checkpoint; {cure}")):
            find_checkpoint(own, str(wrong))


@pytest.mark.parametrize("content", [b"", b"hello world", "half"])
def test_a_state_that_cannot_be_read_is_named(tmp_path, content):
    path = save(tmp_path, 5)
    file = path / "state" / "train_state.pt"
    file.write_bytes(file.read_bytes()[:1000] if content == "half" else content)
    with pytest.raises(CheckpointError, match=r"cannot read.*step_000005"):
        load_state(path, "whole")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read.*step_000005"):
        load_state(path, "whole")


@pytest.mark.parametrize("name", ["step", "consumed"])
def test_a_state_of_a_step_that_cannot_be_is_refused(tmp_path, name):
    path = save(tmp_path, 5)
    write_state(path / "state" / "train_state.pt", vars(state(5)) | {name: -1})
    with pytest.raises(CheckpointError, match=f"no state of a run: {name}"):
        load_state(path, "whole")
