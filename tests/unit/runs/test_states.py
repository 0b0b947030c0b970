"""Files of torch: nothing in them is run, and damage is noticed."""

import contextlib
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gpg_vl.errors import CheckpointError
from gpg_vl.runs.checkpoint import random_states, restore_random_states
from gpg_vl.runs.states import check_shards, read_state, write_state
from gpg_vl.runtime.parallel import World
from tests.support.hostile import Hostile


def plain_pickle(values, file: Path) -> None:
    file.write_bytes(pickle.dumps(values))


WAYS = {
    "zip": torch.save,
    "earlier format": lambda values, file: torch.save(values, file, _use_new_zipfile_serialization=False),
    "pickle": plain_pickle,
}


@pytest.mark.parametrize("way", WAYS)
def test_code_in_a_state_is_not_run(tmp_path, way):
    WAYS[way]({"step": 1, "python": Hostile(tmp_path / "ran")}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"cannot read .*state\.pt") as refused:
        read_state(tmp_path / "state.pt")
    assert "weights_only" not in str(refused.value)  # torch tells how to run it all the same
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        check_shards(tmp_path, World())
    assert not (tmp_path / "ran").exists()
    with contextlib.suppress(RuntimeError):  # no file of torch, but too late
        torch.load(tmp_path / "state.pt", weights_only=False)  # what was refused does run
    assert (tmp_path / "ran").exists()


def test_a_foreign_shard_is_named_with_what_it_would_run(tmp_path):
    torch.save({"a": torch.ones(2), "b": 1, "c": [None, "x"]}, tmp_path / "mp_rank_00_model_states.pt")
    check_shards(tmp_path, World())
    torch.save({"a": Hostile(tmp_path / "ran")}, tmp_path / "zero_pp_rank_0_optim_states.pt")
    with pytest.raises(CheckpointError, match=r"optim_states\.pt' would run posix.mkdir"):
        check_shards(tmp_path, World())


def test_a_program_is_no_state(tmp_path):
    with zipfile.ZipFile(tmp_path / "state.pt", "w") as archive:
        archive.writestr("state/constants.pkl", pickle.dumps(()))
    for check in (lambda: read_state(tmp_path / "state.pt"), lambda: check_shards(tmp_path, World())):
        with pytest.raises(CheckpointError, match="holds a program"):
            check()


def test_a_flipped_byte_in_a_tensor_is_noticed(tmp_path):
    file = tmp_path / "state.pt"
    write_state(file, {"moments": torch.full((1000,), 0.5)})
    content = bytearray(file.read_bytes())
    content[content.index(np.float32(0.5).tobytes() * 9) + 100] ^= 4
    file.write_bytes(content)
    for check in (lambda: read_state(file), lambda: check_shards(tmp_path, World())):
        with pytest.raises(CheckpointError, match=r"state\.pt.*data/0 in it is damaged"):
            check()


def test_random_states_are_plain_numbers_and_earlier_ones_are_read(tmp_path):
    before = random_states()
    try:
        for keys in (before["numpy"][1], np.array(before["numpy"][1], dtype=np.uint32)):
            kind, _, *rest = before["numpy"]
            write_state(tmp_path / "state.pt", before | {"numpy": (kind, keys, *rest)})
            restore_random_states(read_state(tmp_path / "state.pt"))
            drawn = [random.random(), np.random.random(), torch.rand(1).item()]
            restore_random_states(before)
            assert [random.random(), np.random.random(), torch.rand(1).item()] == drawn
        with pytest.raises(CheckpointError, match="random states cannot be used"):
            restore_random_states(before | {"python": (3, (1, 2), None)})
    finally:
        restore_random_states(before)
    write_state(tmp_path / "new.pt", before)
    torch.load(tmp_path / "new.pt", weights_only=True)  # no allow-list needed


def test_what_is_no_dictionary_is_no_state(tmp_path):
    torch.save([1], tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="is no state of a run"):
        read_state(tmp_path / "state.pt")
