"""A configuration as the command that makes it."""

import shlex
from pathlib import Path

import pytest

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from gpg_vl.options import load_config
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout_config import RolloutConfig
from gpg_vl.runs.command_line import command_line, portable

ROOT = Path(__file__).parents[3]
RECIPES = [path for path in ROOT.glob("configs/**/*.yaml") if path.parent.name != "accelerate"]
OPEN = ["--out", "runs/x", "--model.path", "org/model", "--data.train", "a"]


def again(config):
    words = shlex.split(command_line(config).replace("\\\n", ""))
    assert words[:2] == ["gpg-vl", "sft" if isinstance(config, SftConfig) else "train"]
    return load_config(type(config), words[2:])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_command(path):
    kind = SftConfig if "sft" in path.stem else TrainConfig
    config = load_config(kind, [*OPEN, "--config", str(path)])
    assert again(config) == config


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(
            "runs/it's new",
            ModelConfig("org/model", lora_rank=4, lora_targets=["q_proj", "v_proj"]),
            Prompt(instruction="Answer: {kind}, 'so'.", system="one # two\nthree"),
            DataConfig(train=["one", "the other"], workers=0),
            RolloutConfig(stop=["</answer>", "1"]),
            AlgorithmConfig.of("grpo", kl_beta=0.0, clip=0.1),
            {"choice": 1.0, "my.py:own": {"weight": 0.5, "name": "x y"}},
            OptimConfig(betas=(0.8, 0.9), learning_rate=3e-7),
            RunConfig(keep_last=1, trackers=["tensorboard"]),
        ),
        TrainConfig("1", ModelConfig("2"), Prompt(system="yes"), DataConfig(train=["3"])),
        SftConfig("a", 8, 0.5, reasoning=False, model=ModelConfig("b"), data=DataConfig(train=["c"])),
    ],
)
def test_a_command_is_read_back(config):
    assert again(config) == config


def test_defaults_are_left_out():
    config = SftConfig("runs/a", model=ModelConfig("org/model"), data=DataConfig(train=["c"]))
    lines = command_line(config).splitlines()
    assert lines == [
        "gpg-vl sft \\",
        "  --out runs/a \\",
        "  --model.path org/model \\",
        "  --data.train '[\"c\"]'",
    ]


def test_a_checkpoints_own_prompt_is_spelled_out(tmp_path):
    """Else the new run would take it from the checkpoint, and not what this one was told."""
    (tmp_path / "gpg_vl.json").write_text('{"prompt": {"template": "boxed"}, "max_pixels": 784}')
    config = TrainConfig("a", ModelConfig(str(tmp_path)), data=DataConfig(train=["c"]))
    text = command_line(config)
    assert f"--model.path {tmp_path.name} " in text and str(tmp_path) not in text
    words = shlex.split(text.replace("\\\n", ""))[2:]
    assert load_config(TrainConfig, [*words, "--model.path", str(tmp_path)]) == config


def test_absolute_paths_are_of_one_machine():
    rewards = {"/home/me/my.py:own": {"weight": 1, "words": ["/etc/words", "a/b"]}, "iou": 1.0}
    assert portable(rewards) == {"my.py:own": {"weight": 1, "words": ["words", "a/b"]}, "iou": 1.0}
