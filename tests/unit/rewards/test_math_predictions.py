"""Where the prediction of a question of mathematics stands: in boxes, in tags, behind the reasoning."""

import pytest

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.math_equal import math_equal
from gpg_vl.types import Sample
from tests.unit.rewards.test_math_equal import score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So \\boxed{5}.", 1.0),
        ("So $x = \\boxed{5}$ and that is all", 1.0),
        ("\\boxed{5} or \\boxed{6}", 0.0),
        ("\\boxed{6}, no: \\boxed{5}", 0.0),
        ("\\boxed{5} = \\boxed{5}", 1.0),
        ("\\boxed{10/2} = \\boxed{5}", 1.0),
        ("\\boxed{\\boxed{5}}", 1.0),
        ("\\boxed {5}", 1.0),
        ("\\boxed{\\left\\{5\\right\\}}", 1.0),
        ("\\boxed{5} and \\boxed{", 1.0),
        ("\\boxed{5", 0.0),
        ("The answer is 5", 0.0),  # neither box nor tag
        ("5", 0.0),
        ("$5$", 0.0),
        ("", 0.0),
        ("<think>\\boxed{5}</think>", 0.0),
        ("<think>\\boxed{5}", 0.0),
        ("<think>\\boxed{5}</think>\\boxed{6}", 0.0),
        ("<think>\\boxed{6}</think>\\boxed{5}", 1.0),
        ("\\boxed{6}</think>\\boxed{5}", 1.0),
        ("<think>a</think>\\boxed{5}<think>", 0.0),
        ("<think>a</think><answer>\\boxed{5}</answer>", 1.0),
        ("<think>a</think><answer>It is \\boxed{5}.</answer>", 1.0),
        ("<think>a</think><answer>\\boxed{5} \\boxed{6}</answer>", 0.0),
        ("<answer>6</answer>\\boxed{5}", 0.0),
        ("\\boxed{5}<answer>6</answer>", 0.0),
        ("\\boxed{5}<answer></answer>", 0.0),
        ("\\boxed{6}<answer>5</answer>", 1.0),
        ("<answer>5</answer><answer>5</answer>", 0.0),
        ("<answer>5</answer><answer>6</answer>", 0.0),
        ("\\boxed{5}<answer>", 0.0),
        ("<answer>\\boxed{5}", 0.0),
        ("<answer>5}{</answer>", 0.0),
        ("\\boxed{5}</answer>", 0.0),
        ("<think><answer>5</answer></think>", 0.0),
        ("<think>a</think><answer>5 \\text{ or } \\boxed{5}</answer>", 1.0),
        ("3 + \\boxed{} = 8, so \\boxed{5}", 1.0),
        ("3 + \\boxed{\\phantom{5}} = 8, so \\boxed{5}", 1.0),
        ("Put it in \\boxed{\\text{answer}}: \\boxed{5}", 1.0),
        ("\\boxed{\\phantom{5}}", 0.0),
        ("\\boxed{}", 0.0),
    ],
)
def test_where_the_prediction_stands(text, expected):
    assert score(text, "5") == expected


@pytest.mark.parametrize(
    ("text", "alternatives", "expected"),
    [
        (r"\boxed{0.7}", ["0.7"], 1.0),
        (r"\boxed{0.7}", ["0.8", r"\frac{7}{10}"], 1.0),
        (r"\boxed{5}", ["0.7"], 1.0),
        (r"\boxed{5} or \boxed{0.7}", ["0.7"], 1.0),
        (r"\boxed{5} or \boxed{6}", ["0.7"], 0.0),
        (r"\boxed{6}", ["0.7", r"\frac{1}{"], 0.0),
        (r"\boxed{7}", "7", 0.0),  # no list of answers
        (r"\boxed{7}", [7, None], 0.0),
    ],
)
def test_any_of_several_right_answers_will_do(text, alternatives, expected):
    assert score(text, "5", alternatives=alternatives) == expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("\\boxed{1} and \\boxed{2}", "1,2", 1.0),
        ("\\boxed{2} and \\boxed{1}", "1,2", 1.0),
        ("\\boxed{(2, 2)} and \\boxed{(6, 2)}", "(2,2),(6,2)", 1.0),
        ("\\boxed{1}, \\boxed{2}: \\boxed{1,2}", "1,2", 1.0),
        ("\\boxed{1} and \\boxed{3}", "1,2", 0.0),
        ("\\boxed{1}, \\boxed{2}, \\boxed{3}", "1,2", 0.0),
        ("\\boxed{1}", "1,2", 0.0),
    ],
)
def test_several_boxes_may_list_the_answer(text, gold, expected):
    assert score(text, gold) == expected


def test_a_box_of_the_question_is_quoted():
    completion = parse_completion(
        "3x = \\boxed{12} has \\boxed{4}", think_opened=False, token_count=1, finish_reason="eos"
    )
    question = "What is x in 3x = \\boxed{12}?"
    assert math_equal(completion, Sample("1", "math", question, "4", "math")) == 1.0
    assert math_equal(completion, Sample("1", "math", question + " \\boxed{4}", "4", "math")) == 0.0
    assert math_equal(completion, Sample("1", "math", "Solve.", "4", "math")) == 0.0


def test_reasoning_that_the_prompt_opened_holds_no_prediction():
    assert score("\\boxed{5}", "5", think_opened=True) == 0.0
    assert score("\\boxed{5}</think>", "5", think_opened=True) == 0.0
    assert score("\\boxed{6}</think>\\boxed{5}", "5", think_opened=True) == 1.0
