"""A checkpoint's card is a lower layer of the configuration: it is asked as it was trained."""

import json
from pathlib import Path

import pytest

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.options import load_config
from gpg_vl.prompting.card import CARD, asking_note, read_card
from gpg_vl.prompting.prompts import Prompt

PROMPT = {"template": "boxed", "instruction": "Say it.", "system": "You know.", "box_space": "image"}
TRAINED = Prompt(**PROMPT)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    card = {"prompt": PROMPT, "min_pixels": 784, "max_pixels": 50_176, "rewards": {"choice": 1.0}}
    (folder / "gpg_vl.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def load(checkpoint, tmp_path):
    def load(*options: str, text: str = "", kind=TrainConfig):
        file = tmp_path / "config.yaml"
        file.write_text(f"out: runs/x\ndata: {{train: [a]}}\n{text}")
        return load_config(kind, ["--config", str(file), "--model.path", str(checkpoint), *options])

    return load


@pytest.mark.parametrize("kind", [TrainConfig, SftConfig])
def test_a_checkpoint_brings_its_prompt_and_image_sizes(load, kind, tmp_path):
    for config in (load(kind=kind), load(text=f"model: {{path: {tmp_path / 'checkpoint'}}}", kind=kind)):
        assert config.prompt == TRAINED
        assert (config.model.min_pixels, config.model.max_pixels) == (784, 50_176)


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        (["--prompt.instruction", "Other."], "", Prompt(**PROMPT | {"instruction": "Other."})),
        (["--prompt.instruction=null"], "", Prompt(**PROMPT | {"instruction": None})),
        ([], "prompt: {system: Be brief.}", Prompt(**PROMPT | {"system": "Be brief."})),
        (["--prompt.template", "boxed"], "", TRAINED),
        # Its sentences belong to its template; where boxes are counted from does not.
        (["--prompt.template", "instruct"], "", Prompt(box_space="image")),
        ([], "prompt: {template: base}", Prompt("base", box_space="image")),
    ],
)
def test_what_the_configuration_says_wins(load, options, text, expected):
    assert load(*options, text=text).prompt == expected


def test_image_sizes_are_taken_one_by_one(load):
    model = load("--model.max_pixels", "100352").model
    assert (model.min_pixels, model.max_pixels) == (784, 100_352)


def test_a_size_at_odds_with_the_checkpoints_other_one_says_whose_it_is(load):
    with pytest.raises(ConfigurationError, match=r"784 is more than model\.max_pixels 700: .*gpg_vl\.json"):
        load("--model.max_pixels", "700")


def test_a_foreign_model_brings_nothing(load, checkpoint):
    (checkpoint / "gpg_vl.json").unlink()
    assert load().prompt == Prompt()


def test_the_user_is_told(checkpoint):
    pixels = {"min_pixels": 784, "max_pixels": 50_176}
    path = str(checkpoint)
    assert asking_note(path, TRAINED, pixels) == (
        f"prompt and image sizes are those that {path!r} was trained with (gpg_vl.json)"
    )
    told = asking_note(path, Prompt("boxed", "Other.", "You know.", "image"), pixels | {"max_pixels": 784})
    assert told == (
        f"warning: {path!r} was trained with prompt.instruction 'Say it.', now 'Other.', "
        "model.max_pixels 50176, now 784"
    )
    (checkpoint / "gpg_vl.json").unlink()
    assert asking_note(path, Prompt(), pixels) == ""


@pytest.mark.parametrize("content", ["[]", "null", "[" * 100_000])
def test_a_card_that_is_no_table_is_damaged(tmp_path, content):
    (tmp_path / CARD).write_text(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path)
