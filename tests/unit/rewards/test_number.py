import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.math_equal import math_equal
from gpg_vl.rewards.number import number
from gpg_vl.types import Sample


def score(text, gold, **options):
    sample = Sample("1", "geoqa", "How many degrees?", gold, "number")
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    return number(completion, sample, **options)


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("65", "65", 0.0),
        ("<answer>65", "65", 0.0),
        ("<answer>65</answer><answer>65</answer>", "65", 0.0),
        ("<think><answer>65</answer>", "65", 0.0),
        ("<think><answer>65</answer></think>65", "65", 0.0),
        ("<think>65</think>", "65", 0.0),
        ("<answer>٦٥</answer>", "65", 0.0),
        ("<answer>6.6e-34</answer>", "6.6e-34", 1.0),
        ("<answer>6.7e-34</answer>", "6.6e-34", 0.0),  # relative, however small the numbers
        ("<answer>0</answer>", "6.6e-34", 0.0),
        ("<answer>3.4999999</answer>", "3 1/2", 1.0),
        ("<answer>650</answer>", "65°", 0.0),
        ("<answer>6 5</answer>", "65", 0.0),
        ("<answer>5</answer>", "-5", 0.0),
        ("<answer>1</answer>", "10", 0.0),
        ("<answer>1234</answer>", "1,234", 1.0),
        ("<answer>0.3333333</answer>", "1/3", 1.0),
        ("<answer>0.33</answer>", "1/3", 0.0),
        ("<answer>1000000.9</answer>", "1000000", 1.0),  # within 1e-6 of the gold number
        ("<answer>1000001.1</answer>", "1000000", 0.0),
        ("<answer>0.0000009</answer>", "0", 1.0),
        ("<answer>0.0000011</answer>", "0", 0.0),
        ("<answer>0.5</answer>", "50%", 1.0),
        ("<answer>50</answer>", "50%", 1.0),
        ("<answer>50%</answer>", "0.5", 1.0),
        ("<answer>0.5%</answer>", "0.5", 0.0),
        ("<answer>50 cm</answer>", "0.5 m", 1.0),
        ("<answer>50 cm</answer>", "50 m", 0.0),
        ("<answer>36 km/h</answer>", "10 m/s", 1.0),
        ("<answer>5 kJ</answer>", "5 joules", 0.0),
        ("<answer>5 kPa</answer>", "5000 Pa", 1.0),
        ("<answer>5 mA</answer>", "5 amps", 0.0),
        ("<answer>50 cents</answer>", "0.5 dollars", 1.0),
        ("<answer>1:4</answer>", "\\frac{1}{4}", 1.0),
        ("<answer>4:1</answer>", "4", 0.0),
        ("<answer>65K</answer>", "65", 0.0),
        ("<answer>65万</answer>", "65", 0.0),
        ("<answer>12</answer>", "twelve", 1.0),
    ],
)
def test_score(text, gold, expected):
    assert score(text, gold) == expected


def test_tolerance_is_an_option():
    assert score("<answer>0.33</answer>", "1/3", tolerance=0.02) == 1.0
    assert score("<answer>0.31</answer>", "1/3", tolerance=0.02) == 0.0
    assert score("<answer>104</answer>", "100", tolerance=0.05) == 1.0
    assert score("<answer>106</answer>", "100", tolerance=0.05) == 0.0


@pytest.mark.parametrize("tolerance", [-1e-9, -1, float("nan"), float("inf"), "0.1", None, True])
def test_a_tolerance_that_is_no_number_from_0_up_is_refused(tolerance):
    with pytest.raises(ConfigurationError, match="'number' needs a tolerance"):
        score("<answer>3</answer>", "3", tolerance=tolerance)


def test_no_tolerance_asks_for_the_very_number():
    assert score("<answer>3.0</answer>", "3", tolerance=0) == 1.0
    assert score("<answer>3.0000001</answer>", "3", tolerance=0) == 0.0


@pytest.mark.parametrize("gold", ["", "some", "3 or 4", "1/0", "√3", "inf", "٦٥"])
def test_a_gold_answer_that_is_no_number_cannot_be_graded(gold):
    assert score("<answer>3</answer>", gold) is None
    assert score("no tags", gold) is None


@pytest.mark.parametrize("gold", ["65", "65°", "8 cm²", "\\frac{1}{4}", "1200", "2.5", "73"])
@pytest.mark.parametrize(
    "answer",
    [
        *("65", "65°", "∠1 = 65°", "sixty-five", "The answer is 65.", "65 degrees", "65 or 66", "65x", "H65"),
        *("more than 65", "65 is wrong", "65 million", "65\\text{ million}", "65\\text{x}", "650"),
        *("8 cm²", "8cm^2", "8 平方厘米", "8", "≈ 8", "8 m²", "1:4", "1/4", "0.25", "\\frac14", "25%", "4:1"),
        *("1.2 × 10^3", "1,200", "1 200", "1.2k", "73 people", "73 个", "**73**", "`73`", "73元", "N/A", ""),
        *("2.5", "5/2", "2 1/2", "2½", "-2.5", "2.50 m", "180 - 115 = 65", "not 65", "65 + PE + PF", "nan"),
    ],
)
def test_number_and_math_agree(answer, gold):
    """Training with one and evaluation with the other reward the same answers."""
    sample = Sample("1", "geoqa", "How many degrees?", gold, "number")
    text = f"<think>3</think><answer>{answer}</answer>"
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    assert number(completion, sample) == math_equal(completion, sample)
