import pytest

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.format import format_reward
from gpg_vl.types import Sample

SAMPLE = Sample("1", "t", "Q?", "(A)", "choice", ("x", "y"))


def score(text, think_opened=False):
    completion = parse_completion(text, think_opened=think_opened, token_count=1, finish_reason="eos")
    return format_reward(completion, SAMPLE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("<think>a</think>\n\n<answer>b</answer>", 1.0),
        (" \n<think>\na\nb\n</think> <answer>\nb\n</answer>\n", 1.0),
        ("<think></think><answer>b</answer>", 1.0),
        ("<think>a</think><answer><|box_start|>(1,2),(3,4)<|box_end|></answer>", 1.0),
        ("<think>a</think><answer>NaN</answer>", 1.0),
        ("<think></think><answer></answer>", 0.0),
        ("<think>a</think><answer></answer>", 0.0),
        ("<think>a</think><answer> \n </answer>", 0.0),
        ("<think>1 < 2 and </b> is no tag</think><answer>(A)</answer>", 1.0),
        ("<think>想一想</think><answer>６５°</answer>", 1.0),
        ("<think>" + "so " * 3000 + "</think><answer>b</answer>", 1.0),
        ("", 0.0),
        ("   \n", 0.0),
        ("(A)", 0.0),
        ("<answer>b</answer>", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a</think>b", 0.0),
        ("<think>a</think><answer>b", 0.0),
        ("<think>a</think><answer>b</answer", 0.0),
        ("<think>a<answer>b</answer>", 0.0),
        ("a</think><answer>b</answer>", 0.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a<answer>b</answer></think>", 0.0),
        ("<think>a<answer></think>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0.0),
        ("<think><think>a</think></think><answer>b</answer>", 0.0),
        ("<think>a</think></think><answer>b</answer>", 0.0),
        ("<think>a</think><answer><answer>b</answer></answer>", 0.0),
        ("<think>I write <answer> next</think><answer>b</answer>", 0.0),
        ("Sure! <think>a</think><answer>b</answer>", 0.0),
        ("<think>a</think> so <answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer> Done.", 0.0),
        ("<Think>a</Think><Answer>b</Answer>", 0.0),
        ("<think >a</think><answer>b</answer>", 0.0),
        ("&lt;think&gt;a&lt;/think&gt;&lt;answer&gt;b&lt;/answer&gt;", 0.0),
        ("＜think＞a＜/think＞＜answer＞b＜/answer＞", 0.0),
        ("<think></think><answer></answer>" * 300, 0.0),
        ("<think>a</think>" + " " * 10_000 + "<answe", 0.0),
        ("x" * 10_000, 0.0),
    ],
)
def test_whole_text_after_a_prompt_without_tags(text, expected):
    assert score(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a</think><answer>b</answer>", 1.0),
        ("\na\n</think>\n<answer>b</answer>\n", 1.0),
        ("</think><answer>b</answer>", 1.0),
        ("</think><answer></answer>", 0.0),
        ("<think>a</think><answer>b</answer>", 0.0),
        ("a<answer>b</answer>", 0.0),
        ("</think>a</think><answer>b</answer>", 0.0),
        ("a</think><answer>b", 0.0),
        ("", 0.0),
    ],
)
def test_text_after_a_prompt_that_opened_think(text, expected):
    assert score(text, think_opened=True) == expected
