"""The README of a saved model: what the hub reads of it, and that what it says is so."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from PIL import Image

from gpg_vl import registry
from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.adapt import merge
from gpg_vl.model.loading import load_policy
from gpg_vl.options import load_config
from gpg_vl.prompting.card import base_on_hub, merged_readme, parted_readme
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.answering import build_encoder
from gpg_vl.runtime.files import damaged_file
from gpg_vl.training.model_readme import Trained, front_matter, model_readme
from gpg_vl.training.snippet import snippet
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft
from gpg_vl.types import AnswerType, Sample
from tests.support.families import save_family
from tests.support.inputs import noise
from tests.support.letters import letters
from tests.support.training import REWARD


@pytest.fixture
def config(tiny_folder: Path, scenes_folder: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        str(tmp_path / "mine"),
        ModelConfig(str(tiny_folder), max_pixels=50_176),
        data=DataConfig(train=[str(scenes_folder)], validation=[str(scenes_folder)]),
        rollout=RolloutConfig(group_size=2, max_new_tokens=4),
        algorithm=AlgorithmConfig(questions_per_step=2),
        rewards={f"{REWARD}:letters": {"weight": 2.0}},
        run=RunConfig(steps=2, save_every=1),
        eval=EvalConfig(max_new_tokens=4, limit=6),
    )


def supervised(config: TrainConfig) -> SftConfig:
    return SftConfig(config.out, 4, model=config.model, data=config.data, run=config.run, eval=config.eval)


def block(text: str, language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[0]


@pytest.fixture
def readmes(config) -> list[str]:
    last = train(config)
    return [(last.parents[1] / f"step_00000{step}" / "model" / "README.md").read_text() for step in (1, 2)]


def test_a_trained_model_has_a_card(readmes, config, tiny_folder, scenes_folder):
    first, last = readmes
    front, body = parted_readme(last)
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["gpg-vl", "gpg", "reinforcement-learning"],
    }
    assert body.startswith(f"# mine, step 2\n\nTrained from `{tiny_folder.name}` by gpg-vl with Group Policy")
    assert "https://arxiv.org/abs/2504.02546" in body
    assert "Greedy answers of step 0 on `scenes`" in first  # the last one so far
    assert "Greedy answers of step 2 on `scenes`" in last  # which came after the model was saved
    assert "| mean reward of sampled answers | " in first
    assert "| scenes | 48   | scenes" in body
    assert yaml.safe_load(block(body, "yaml")) == {"letters.py:letters": {"weight": 2.0}}
    for path in (tiny_folder, scenes_folder, Path(config.out), REWARD):
        assert str(path.parent) not in last


def test_its_command_is_that_of_the_run(readmes, config):
    words = shlex.split(block(readmes[1], "bash").replace("\\\n", ""))
    places = {"--out": config.out, "--model.path": config.model.path, "--data.train": str(config.data.train)}
    places |= {"--data.validation": str(config.data.validation)}
    again = [places.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    made = load_config(TrainConfig, again[2:])
    assert replace(made, rewards=config.rewards) == config and list(made.rewards) == ["letters.py:letters"]


def asked_by_program(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The program's variables after it was run beside the model and two images."""
    for number, name in enumerate(("image.jpg", "image_1.jpg", "image_2.jpg")):
        noise(400 - 30 * number, 300).save(folder / name)
    monkeypatch.chdir(folder)
    made: dict[str, Any] = {}
    exec(program, made)
    return made


def as_sample(made: dict[str, Any], names: Sequence[str]) -> Sample:
    """What the program asked."""
    question, _, choices = made["question"].partition(" Select from the following choices.\n")
    texts = tuple(line.partition(") ")[2] for line in choices.splitlines())
    return Sample("a", "t", question, "(A)", "choice", texts, tuple(Image.open(name) for name in names))


def test_its_program_asks_as_in_training(readmes, config, monkeypatch):
    folder = Path(config.out) / "checkpoints" / "step_000002" / "model"
    made = asked_by_program(block(readmes[1], "python"), folder, monkeypatch)
    encoder = build_encoder(load_policy("."), config.prompt, config.model)
    (asked,) = encoder.encode([as_sample(made, ["image.jpg"])])
    assert made["inputs"]["input_ids"][0].tolist() == asked.token_ids.tolist()
    assert made["inputs"]["image_grid_thw"].tolist() == asked.grid.tolist()
    assert 0 < len(made["new"]) <= 4


IMAGES = {**dict.fromkeys(("qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "gemma3"), 2), "qwen2_vl": 1}


@pytest.mark.parametrize("template", ["instruct", "base"])
@pytest.mark.parametrize("family", [*IMAGES, "llama", "gemma3_text", "qwen3"])
def test_every_family_has_a_program(family, template, tiny_folder, tmp_path, monkeypatch):
    """Which gives the model the tokens that training gives it, the tokenizer's first one too."""
    path = save_family(family, tmp_path / "model", tiny_folder)
    model, count = ModelConfig(str(path), max_pixels=50_176), IMAGES.get(family, 0)
    encoder = build_encoder(load_policy(str(path)), Prompt(template), model)
    images = tuple(noise(40, 40) for _ in range(count))
    like = Sample("a", "t", "Which?", "(B)", "choice", ("one", "two"), images)
    program = snippet(encoder, like, max_new_tokens=2, stop=["</answer>"])
    made = asked_by_program(program, path, monkeypatch)
    names = ["image.jpg"] if count == 1 else [f"image_{number + 1}.jpg" for number in range(count)]
    (asked,) = encoder.encode([as_sample(made, names)])
    assert made["inputs"]["input_ids"][0].tolist() == asked.token_ids.tolist()


@pytest.mark.parametrize("answer_type", get_args(AnswerType))
def test_there_is_an_example_of_every_type(answer_type, policy, config):
    encoder = build_encoder(policy, config.prompt, config.model)
    compile(snippet(encoder, Sample("a", "t", "?", "1", answer_type), max_new_tokens=1, stop=[]), "", "exec")


def test_a_lora_checkpoint_and_what_it_is_merged_to(config, tmp_path, tiny_folder):
    lora = replace(config, model=replace(config.model, lora_rank=2))
    folder = train(lora)
    front, body = parted_readme((folder / "README.md").read_text())
    assert front["library_name"] == "peft"
    assert f"LoRA adapters of rank 2 for `{tiny_folder.name}`" in body and "--model.lora_rank 2" in body
    merge(str(folder), tmp_path / "merged")
    front, body = parted_readme((tmp_path / "merged" / "README.md").read_text())
    assert front["library_name"] == "transformers"
    assert body.rstrip().endswith("`gpg-vl merge`.") and "# mine, step 2" in body


def test_a_fine_tuned_model_has_a_card_and_users_may_write_on(config, tiny_folder):
    """Also where it began with a folder that has a README of its own."""
    folder = sft(supervised(config))
    text = (folder / "README.md").read_text()
    front, body = parted_readme(text)
    assert front["tags"] == ["gpg-vl", "sft"]
    assert "supervised fine-tuning" in body and "| loss (nats per token) |" in body
    assert "4 rows a step; adamw at 1e-05." in body
    (folder / "README.md").write_text(f"{text}\nI like it.\n")
    assert damaged_file(folder) is None
    after = replace(config, out=f"{config.out}2", model=replace(config.model, path=str(folder)))
    assert "I like it." not in (train(after) / "README.md").read_text()


def test_the_hub_is_told_names_that_it_knows(config, tmp_path, scene_samples):
    write_prepared(scene_samples[:4], tmp_path / "set", source="org/set", converter="jsonl", version="1")
    data = DataConfig(train=[str(tmp_path / "set"), *config.data.train])
    front = front_matter(replace(config, model=ModelConfig("org/base"), data=data), takes_images=False)
    assert front == {
        **{"base_model": "org/base", "base_model_relation": "finetune", "library_name": "transformers"},
        **{"pipeline_tag": "text-generation", "datasets": ["org/set"]},
        "tags": ["gpg-vl", "gpg", "reinforcement-learning"],
    }
    lora = replace(config, model=ModelConfig("org/base", lora_rank=2))
    assert front_matter(lora, takes_images=True)["base_model_relation"] == "adapter"
    grpo = replace(config, algorithm=AlgorithmConfig.of("grpo"))
    assert front_matter(grpo, takes_images=True)["tags"] == ["gpg-vl", "grpo", "reinforcement-learning"]


def test_a_checkpoint_knows_the_base_that_it_began_with(tmp_path):
    (tmp_path / "README.md").write_text("---\nbase_model: org/base\n---\n")
    assert base_on_hub(str(tmp_path)) is None  # a copy from the hub, whose base that is
    (tmp_path / "gpg_vl.json").write_text("{}")
    assert base_on_hub(str(tmp_path)) == "org/base"
    assert base_on_hub("org/base") == "org/base" and base_on_hub("/gone/base") is None


@pytest.mark.parametrize("text", ["", "plain\n---\nwords\n---\n", "---\n: [\n---\nbody", "---\nno end"])
def test_a_readme_of_other_hands_stays_as_it_is(text):
    assert merged_readme(text) == text


def test_boxes_are_explained(config, policy):
    like = Sample("a", "t", "Where?", "[[1, 2, 3, 4]]", "boxes", images=(noise(40, 40),))
    encoder = build_encoder(policy, config.prompt, config.model)
    text = model_readme(Trained(config, 1, {}, None, encoder, like))
    assert "Boxes in its answers are in thousandths" in text and "Not measured." in text


def test_a_function_of_a_session_is_to_be_put_into_a_file(config):
    registry.rewards.add("python:mine", letters)
    again = "were functions of a Python session: put them into a file first"
    assert again in model_readme_of(replace(config, rewards={"python:mine": 1.0}))
    assert again not in model_readme_of(replace(config, out=f"{config.out}_too"))


def model_readme_of(config: TrainConfig) -> str:
    return (train(replace(config, run=RunConfig(steps=1))) / "README.md").read_text()
