"""A loaded model is asked as it was trained, and its answers are scored."""

import math

import numpy as np
import pytest
from PIL import Image

import gpg_vl
from gpg_vl.errors import ConfigurationError, DataError, ModelError
from tests.support.inputs import noise

CHOICES = ["left", "right"]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return gpg_vl.load(tiny_folder)


def test_answers_have_all_that_a_model_said(model):
    answers = model.ask(noise(84, 84), "Where?", choices=CHOICES, answer="(A)", samples=3, max_new_tokens=5)
    assert len(answers) == 3 and answers.sample.choices == ("left", "right")
    for answer in answers:
        assert len(answer.logprobs) == len(answer.token_ids) == answer.token_count <= 5
        assert all(logprob <= 0 for logprob in answer.logprobs)
        assert isinstance(answer.text, str) and answer.boxes == ()
    assert answers[0] is answers.completions[0] and list(answers[1:]) == list(answers.completions[1:])


def test_a_model_prints_in_one_line(model, tiny_folder):
    assert repr(model) == f"Model({str(tiny_folder)!r})"


def test_one_answer_is_greedy_and_several_are_sampled(model):
    ask = lambda **how: model.ask(None, "Why?", max_new_tokens=6, **how)  # noqa: E731
    assert ask() == ask(seed=7)
    first, other = ask(samples=4), ask(samples=4, seed=7)
    assert first == ask(samples=4) and first != other
    assert len({answer.text for answer in first}) > 1
    assert ask(samples=4, top_p=1.0, temperature=1.0) != first


def test_an_image_may_come_in_any_form(model, tmp_path):
    image = noise(84, 112)
    image.save(tmp_path / "image.png")
    forms = [
        image,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        (tmp_path / "image.png").read_bytes(),
    ]
    answers = [model.ask(form, "What?", max_new_tokens=4) for form in [*forms, [image]]]
    assert len({answer[0].logprobs for answer in answers}) == 1
    assert model.ask([image, noise(56, 56)], "What?", max_new_tokens=4)[0].logprobs != answers[0][0].logprobs


def test_images_are_asked_about_as_training_would_store_them(model):
    """16 bits, transparency: what `prepare` makes of them is what the model sees."""
    see_through = Image.new("RGBA", (84, 84), (0, 0, 0, 0))
    white = Image.new("RGB", (84, 84), "white")
    ask = lambda image: model.ask(image, "What?", max_new_tokens=4)[0].logprobs  # noqa: E731
    assert ask(see_through) == ask(white)


def test_what_cannot_be_asked_is_said(model, tmp_path):
    with pytest.raises(DataError, match=r"no file 'none\.png'"):
        model.ask(tmp_path / "none.png", "What?")
    with pytest.raises(ConfigurationError, match="max_new_tokens 100000 does not fit"):
        model.ask(None, "What?", max_new_tokens=100_000)
    with pytest.raises(ConfigurationError, match="samples is a whole number from 1, got 0"):
        model.ask(None, "What?", samples=0)
    with pytest.raises(ConfigurationError, match="Did you mean 'number'"):
        model.ask(None, "How many?", answer_type="nmber")
    with pytest.raises(ModelError, match="is not a model"):
        gpg_vl.load(tmp_path)


def test_a_data_set_is_asked_side_by_side(model, scenes_folder):
    samples = list(gpg_vl.read(scenes_folder).head(3))
    together = model.ask_all(samples, max_new_tokens=4)
    assert [answers.sample.id for answers in together] == [sample.id for sample in samples]
    alone = model.ask_all(samples[1:2], max_new_tokens=4)[0]
    assert alone[0].token_ids == together[1][0].token_ids
    assert alone[0].logprobs == pytest.approx(together[1][0].logprobs, rel=1e-5)


def test_a_checkpoint_brings_its_prompt(trained):
    run, _ = trained
    model = run.model()
    assert model.card["rewards"] == run.config.rewards and model.stop == ("</answer>",)
    assert model.prompt == run.config.prompt


TEXTS = ["<think>a</think><answer>(A)</answer>", "<answer>(B)</answer>"]


def test_texts_from_elsewhere_are_scored():
    answers = gpg_vl.Answers.read(TEXTS, question="Where?", answer="(A)", choices=CHOICES)
    scores = gpg_vl.score(answers, {"choice": 2.0, "format": 0.5})
    assert scores.by_reward == {"choice": (1.0, 0.0), "format": (1.0, 0.0)}
    assert scores.total == (2.5, 0.0)
    assert gpg_vl.score([answers, answers], "choice")[1].total == (1.0, 0.0)


def test_without_rewards_the_answers_type_decides():
    boxes = gpg_vl.Answers.read(
        ["<think></think><answer>[500, 0, 1000, 500]</answer>"],
        answer="[[42, 0, 84, 42]]",
        answer_type="boxes",
        image=noise(84, 84),
        box_space="grid",
    )
    assert boxes[0].boxes == ((42.0, 0.0, 84.0, 42.0),)
    assert math.isclose(gpg_vl.score(boxes).total[0], 1.0)


def test_without_a_gold_answer_there_is_nothing_to_score_by():
    with pytest.raises(DataError, match=r"no gold answer to 'Where\?'"):
        gpg_vl.score(gpg_vl.Answers.read(TEXTS, question="Where?"), "choice")


def test_a_gold_answer_is_what_rows_may_have(model):
    asked = model.ask(None, "Which?", choices=["one", "two"], answer="two", max_new_tokens=2)
    assert asked.sample.answer == "(B)"
    right = gpg_vl.Answers.read(["<answer>3</answer>"], question="How many?", answer=3, answer_type="number")
    assert gpg_vl.score(right).total == (1.0,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"question": None}, "a question is text"),
        ({"choices": "ab"}, "its choices a list of texts"),
        ({"answer_type": "numbr"}, "Did you mean 'number'"),
        ({"samples": 0}, "samples is a whole number from 1"),
        ({"samples": "2"}, "samples is a whole number from 1"),
        ({"image": 3}, "got int"),
        ({"image": np.zeros((40, 40, 3), np.uint8)}, "PIL.Image.fromarray makes one"),
    ],
)
def test_what_fits_no_question_is_said(model, given, message):
    with pytest.raises((ConfigurationError, DataError), match=message):
        model.ask(**({"image": None, "question": "Why?", "max_new_tokens": 2} | given))


def test_samples_may_come_from_an_iterator(model, scenes_folder):
    samples = list(gpg_vl.read(scenes_folder).head(2))
    assert len(model.ask_all(iter(samples), max_new_tokens=2)) == 2
    with pytest.raises(DataError, match="a question is a Sample"):
        model.ask_all([{"question": "Why?"}])
