import json

import pytest
from PIL import Image

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.model.families.qwen2_vl import qwen2_vl
from gpg_vl.prompting.prompts import Prompt, boxed, letter, parse_completion, question_text, unboxed
from gpg_vl.rewards.format import format_reward
from gpg_vl.types import Sample

IMAGE = Image.new("RGB", (28, 28))


def sample(question="How many?", choices=("1", "10"), answer_type="choice", images=(IMAGE,)):
    return Sample("row-3", "t", question, "(A)", answer_type, tuple(choices), images)


def parse(text, think_opened=False):
    return parse_completion(text, think_opened=think_opened, token_count=3, finish_reason="stop")


def test_choices_are_lettered_in_the_wording_of_cv_bench():
    assert question_text(sample()) == "How many? Select from the following choices.\n(A) 1\n(B) 10"
    assert question_text(sample(choices=())) == "How many?"
    assert [letter(i) for i in (0, 3, 25)] == ["(A)", "(D)", "(Z)"]


@pytest.mark.parametrize(
    ("answer_type", "kind"),
    [("choice", "option"), ("number", "number"), ("boxes", "(x1,y1),(x2,y2)"), ("label", "name")],
)
def test_instruct_ends_in_the_instruction(answer_type, kind):
    text = Prompt().user_text(sample(choices=(), answer_type=answer_type))
    assert text == (
        f"How many? Output the thinking process in <think> </think> and final answer ({kind}) "
        "in <answer> </answer> tags."
    )


def test_own_and_empty_instructions():
    assert Prompt(instruction="Give a {kind}.").user_text(sample(choices=())) == "How many? Give a option."
    assert Prompt(instruction="").user_text(sample(choices=())) == "How many?"
    assert Prompt(instruction="").user_text(sample()).endswith("\n(B) 10")
    assert Prompt(instruction="{other} {}").user_text(sample(choices=())) == "How many? {other} {}"


def test_base_opens_the_reasoning():
    prompt = Prompt(template="base")
    text = prompt.user_text(sample())
    assert text.startswith("A conversation between User and Assistant. The user asks")
    assert "\nUser: How many? Select from the following choices.\n(A) 1\n(B) 10 \nAssistant: Let me" in text
    assert text.endswith("<think>")
    assert prompt.opens_think
    assert not Prompt().opens_think
    assert "User: Is {x} a {0} set? \n" in prompt.user_text(sample("Is {x} a {0} set?", choices=()))


def test_messages_hold_the_images_first():
    messages = Prompt(instruction="").messages(sample("Q?", (), images=(IMAGE, IMAGE)))
    image = {"type": "image"}
    assert messages == [{"role": "user", "content": [image, image, {"type": "text", "text": "Q?"}]}]


@pytest.mark.parametrize("template", ["instruct", "base"])
@pytest.mark.parametrize("token", qwen2_vl.image_markup)
def test_vision_tokens_in_a_question_are_refused(template, token):
    for row in (sample(f"See {token}?"), sample(choices=("1", token))):
        with pytest.raises(DataError) as caught:
            Prompt(template=template).user_text(row)
        assert "'row-3'" in str(caught.value)
        assert token in str(caught.value)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ConfigurationError, match=r"unknown prompt.template 'bas'.*Did you mean 'base'\?"):
        Prompt(template="bas")
    with pytest.raises(ConfigurationError, match="belongs to template 'instruct'"):
        Prompt(template="base", instruction="Think.")


@pytest.mark.parametrize(
    "prompt",
    [Prompt(), Prompt("base"), Prompt(instruction=""), Prompt("boxed", system="é", box_space="grid")],
)
def test_a_prompt_survives_its_dictionary(prompt):
    values = prompt.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert Prompt.from_dict(values) == prompt


@pytest.mark.parametrize(
    ("text", "answer", "think"),
    [
        ("<think>a</think><answer>b</answer>", "b", "a"),
        ("<think>\n a \n</think>\n<answer>\n b \n</answer>", "b", "a"),
        ("\n<think>a</think><answer>b</answer>", "b", "a"),
        ("a</think><answer>b</answer>", "b", "a"),
        ("<think></think><answer></answer>", "", ""),
        ("<think>a<answer>b</answer>", None, None),
        ("<think>a<answer>b</answer></think>", None, "a<answer>b</answer>"),
        ("<think>a<answer>b</answer></think>c", None, "a<answer>b</answer>"),
        ("<think>a<answer></think>b</answer>", None, "a<answer>"),
        ("<answer>b</answer></think>", None, "<answer>b</answer>"),
        ("<answer>b</answer><think>a", None, None),
        ("<think>a</think><answer>b</answer><think>a", None, "a"),
        ("<think>a</think>c<think>a</think><answer>b</answer>", "b", "a"),
        ("<answer>line\nline</answer>", "line\nline", None),
        ("", None, None),
        ("b", None, None),
        ("<think>a</think>b", None, "a"),
        ("<think>a</think><answer>b", None, "a"),
        ("<think>a</think>b</answer>", None, "a"),
        ("<think>a</think></answer>b<answer>", None, "a"),
        ("<answer>b</answer><answer>b</answer>", None, None),
        ("<answer>b</answer><answer>", None, None),
        ("<answer><answer>b</answer></answer>", None, None),
        ("<think>a</think>b</think><answer>c</answer>", "c", "a"),
        ("<ANSWER>b</ANSWER>", None, None),
    ],
)
def test_a_completion_is_split_at_its_tags(text, answer, think):
    completion = parse(text)
    assert (completion.answer, completion.think) == (answer, think)
    assert completion.text == text
    assert (completion.token_count, completion.finish_reason) == (3, "stop")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a</think><answer>b</answer>", "b"),
        ("a<answer>b</answer></think>", None),
        ("a<answer>b</answer>", None),  # the reasoning that the prompt opened goes on
        ("<answer>b</answer></think><answer>b</answer>", None),
    ],
)
def test_the_answer_stands_behind_the_reasoning_that_the_prompt_opened(text, answer):
    assert parse(text, think_opened=True).answer == answer


@pytest.mark.parametrize("prompt", [Prompt(), Prompt("base")])
@pytest.mark.parametrize(("answer", "think"), [("(B)", "Two balls.\nSo (B)."), ("65°", ""), ("", "")])
def test_the_supervised_text_is_what_the_rewards_ask_for(prompt, answer, think):
    text = prompt.completion_target(answer, think)
    completion = parse(text, think_opened=prompt.opens_think)
    assert (completion.answer, completion.think) == (answer, think)
    assert completion.think_opened == prompt.opens_think
    assert format_reward(completion, sample()) == float(bool(answer))
    other = parse(text, think_opened=not prompt.opens_think)
    assert format_reward(other, sample()) == 0.0


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r"so \boxed{\frac{1}{2}}.", [r"\frac{1}{2}"]),
        (r"\boxed{2}, \boxed{ 1 }, \boxed{2}", ["2", "1", "2"]),
        (r"\boxed{\left\{ x \right.}", [r"\left\{ x \right."]),
        (r"\boxed{\boxed{5}}", [r"\boxed{5}"]),
        (r"$\boxed 5$", ["5"]),
        (r"\fbox{7} \boxed {8}", ["7", "8"]),
        (r"x \\\boxed{7}", ["7"]),
        (r"x \\boxed{7}", []),
        (r"\boxed{}", [""]),
        (r"\boxed{1} \boxed{unclosed", ["1"]),
        (r"\boxedness{7} \boxed", []),
        ("7", []),
    ],
)
def test_what_is_boxed(text, contents):
    assert boxed(text) == contents


@pytest.mark.parametrize(
    ("text", "without"),
    [
        (r"so $\boxed{\frac{1}{2}}$, not \fbox 3", r"so $\frac{1}{2}$, not 3"),
        (r"\boxed{2 + \boxed{5}}.", "2 + 5."),
        (r"x \\\boxed{ 7 }", r"x \\7"),
        (r"2\cdot\boxed{n}\pm\boxed{7}", r"2\cdot n\pm7"),
        (r"\boxed{}\boxed{1} \boxed{unclosed", r"1 \boxed{unclosed"),
        ("7", "7"),
    ],
)
def test_what_was_boxed_stays(text, without):
    assert unboxed(text) == without
