"""Going on from a checkpoint: config.yaml is what happens, or the run is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpg_vl.config import OptimConfig
from gpg_vl.errors import CheckpointError, ConfigurationError
from gpg_vl.model.tiny import save_tiny
from gpg_vl.runs.checkpoint import load_state
from gpg_vl.training.optim import build_optimizer, restore_moments
from gpg_vl.training.train import train


@pytest.fixture
def checkpoint(config, tmp_path):
    """Of step 2, in a run of four steps at a constant rate."""
    flat = OptimConfig(learning_rate=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    config = replace(config, optim=flat, out=str(tmp_path / "trunk"))
    train(replace(config, run=replace(config.run, steps=2)))
    return config, tmp_path / "trunk" / "checkpoints" / "step_000002"


def groups_of(folder: Path) -> list[dict[str, Any]]:
    """The optimizer's settings that a checkpoint holds."""
    groups = load_state(folder, "whole").optimizer["param_groups"]
    return [{name: group[name] for name in ("betas", "eps", "weight_decay")} for group in groups]


def test_a_branch_follows_its_own_optimizer_settings(checkpoint, tmp_path):
    """config.yaml is what happens; the moments are those of the trunk."""
    config, start = checkpoint
    changed = OptimConfig(learning_rate=2e-3, betas=(0.5, 0.6), weight_decay=0.3, eps=1e-5)
    branch = replace(config, optim=changed, out=str(tmp_path / "branch"), run=replace(config.run, steps=3))
    train(branch, resume=str(start))
    assert {group["weight_decay"] for group in groups_of(start)} == {0.1, 0.0}
    saved = groups_of(tmp_path / "branch" / "checkpoints" / "step_000003")
    assert [group["betas"] for group in saved] == [(0.5, 0.6)] * 2
    assert {group["weight_decay"] for group in saved} == {0.3, 0.0}
    assert {group["eps"] for group in saved} == {1e-5}
    ends = [
        load_state(folder, "whole").optimizer["state"][0]["step"]
        for folder in (start, tmp_path / "branch" / "checkpoints" / "step_000003")
    ]
    assert [int(step) for step in ends] == [2, 3]


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"freeze_vision": True}, r"model\.freeze_vision was False, now True"),
        ("rollout", {"group_size": 2}, r"rollout\.group_size was 4, now 2"),
        ("run", {"seed": 9}, r"run\.seed was 3, now 9"),
        ("optim", {"kind": "adamw8bit"}, r"optim\.kind was 'adamw', now 'adamw8bit'"),
        ("model", {"lora_rank": 2}, r"model\.lora_rank was 0, now 2"),
    ],
)
def test_a_branch_with_other_settings_is_refused(checkpoint, tmp_path, section, values, message):
    config, start = checkpoint
    other = replace(config, out=str(tmp_path / "b"), **{section: replace(getattr(config, section), **values)})
    with pytest.raises(ConfigurationError, match=message):
        train(other, resume=str(start))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_branch_with_nothing_left_to_do_is_refused(checkpoint, tmp_path, steps):
    """It would name a checkpoint that nobody wrote."""
    config, start = checkpoint
    done = replace(config, out=str(tmp_path / "b"), run=replace(config.run, steps=steps))
    with pytest.raises(ConfigurationError, match=f"is of step 2: run.steps {steps} leaves nothing to train"):
        train(done, resume=str(start))
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_of_another_model_is_no_branch_of_this_one(checkpoint, tmp_path):
    config, start = checkpoint
    larger = save_tiny(tmp_path / "larger", ["How many?"] * 9)
    other = replace(config, out=str(tmp_path / "b"), model=replace(config.model, path=str(larger)))
    with pytest.raises(ConfigurationError, match=r"model\.path was '.*tiny', now '.*larger'"):
        train(other, resume=str(start))


def test_a_checkpoint_brings_its_settings_wherever_it_goes(checkpoint, tmp_path):
    config, start = checkpoint
    moved = Path(shutil.copytree(start, tmp_path / "elsewhere" / start.name))
    branch = replace(config, out=str(tmp_path / "b"), run=replace(config.run, steps=3))
    with pytest.raises(ConfigurationError, match=r"run\.seed was 3, now 9"):
        train(replace(branch, run=replace(branch.run, seed=9)), resume=str(moved))
    train(branch, resume=str(moved))
    (moved / "state" / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"has no state/config\.yaml"):
        train(replace(branch, out=str(tmp_path / "c")), resume=str(moved))


def test_a_checkpoint_goes_on_with_the_model_it_was_saved_with(checkpoint, tmp_path):
    config, start = checkpoint
    branch = replace(config, out=str(tmp_path / "b"), run=replace(config.run, steps=3))
    swapped = Path(shutil.copytree(start, tmp_path / "swapped" / start.name))
    shutil.rmtree(swapped / "model")
    shutil.copytree(start.with_name("step_000001") / "model", swapped / "model")
    with pytest.raises(CheckpointError, match="has another model than it was saved with"):
        train(branch, resume=str(swapped))
    renamed = Path(shutil.copytree(start, tmp_path / "renamed" / "step_000005"))
    with pytest.raises(CheckpointError, match="holds the state of step 2"):
        train(branch, resume=str(renamed))


def test_a_run_past_its_steps_is_refused_and_keeps_its_settings(checkpoint):
    config, start = checkpoint
    file = start.parents[1] / "config.yaml"
    before = file.read_text()
    with pytest.raises(
        ConfigurationError, match=r"is past run\.steps 1: its newest checkpoint is step_000002"
    ):
        train(replace(config, run=replace(config.run, steps=1)), resume="auto")
    assert file.read_text() == before


def test_moments_of_another_model_are_refused(policy, checkpoint):
    _, start = checkpoint
    saved = load_state(start, "whole").optimizer
    saved["state"][3]["exp_avg"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match="that of another model"):
        restore_moments(build_optimizer(policy, OptimConfig()), saved, "adamw")
