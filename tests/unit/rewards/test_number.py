import time

import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards._numbers import read_quantity
from gpg_vl.rewards.math_equal import math_equal
from gpg_vl.rewards.number import number
from gpg_vl.types import Sample


def score(text, gold, **options):
    sample = Sample("1", "geoqa", "How many degrees?", gold, "number")
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    return number(completion, sample, **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65", 65.0),
        ("65°", 65.0),
        ("65⁰", 65.0),  # a superscript zero, as often typed for a degree sign
        ("65º", 65.0),
        ("65 degrees", 65.0),
        ("$65^\\circ$", 65.0),
        ("65^{\\circ}", 65.0),
        ("65^0", 65.0),
        ("∠ABC = 65°", 65.0),
        ("\\boxed{65}", 65.0),
        ("\\boxed{\\text{65}}", 65.0),
        ("\\(65\\)", 65.0),
        ("65.", 65.0),
        ("65.0", 65.0),
        ("+65", 65.0),
        ("６５", 65.0),
        ("６５．５°", 65.5),
        ("1e5", 1e5),
        ("1E5 m", 1e5),
        ("１ｅ５", 1e5),
        ("1.5e-3", 0.0015),
        ("-1.5e+3", -1500.0),
        ("1,234e2", 123400.0),
        ("1e3/2e3", 0.5),
        ("3 1/2", 3.5),
        ("-3 1/2", -3.5),
        ("3½", 3.5),
        ("3 ½ cups", 3.5),
        ("3\\frac{1}{2}", 3.5),
        ("3\\tfrac12 = 3.5", 3.5),
        ("65˚", 65.0),
        ("-7", -7.0),
        ("−7", -7.0),
        ("- 7 °C", -7.0),
        ("-7.25", -7.25),
        (".5", 0.5),
        ("1/2", 0.5),
        ("½", 0.5),
        ("-1/2", -0.5),
        ("1/-2", -0.5),
        ("\\frac{1}{2}", 0.5),
        ("\\dfrac{ 1 }{ 2 }", 0.5),
        ("\\tfrac{1}{2}", 0.5),
        ("\\frac12", 0.5),
        ("-\\frac{3}{4}", -0.75),
        ("1/2 = 0.5", 0.5),
        ("50%", 50.0),
        ("1,234", 1234.0),
        ("1{,}234", 1234.0),
        ("1\\,234", 1234.0),
        ("1,234,567.5 m", 1234567.5),
        ("25 cm²", 25.0),
        ("25\\text{ cm}^{2}", 25.0),
        ("8 m^3", 8.0),
        ("5, that is 5.0", 5.0),
        ("0", 0.0),
        ("-0", 0.0),
        ("–5", -5.0),
        ("—5", -5.0),
        ("‐5", -5.0),
        ("‑5", -5.0),
        ("x = –5°", -5.0),
        ("(–.5)", -0.5),
        ("–3 1/2", -3.5),
        ("minus 5", -5.0),
        ("Negative 5 degrees", -5.0),
        ("minus \\frac{1}{2}", -0.5),
        ("the answer is—5", 5.0),
        ("the answer is +5", 5.0),
        ("Answer: 5", 5.0),
        ("5 sec", 5.0),
        ("3 times", 3.0),
        ("sin x = 0.5", 0.5),
        ("25 cm squared", 25.0),
        ("**5**", 5.0),
        ("It is not drawn to scale, 65", 65.0),
        ("The angle is not acute. It is 95", 95.0),
        ("The answer is 65, not drawn to scale", 65.0),
        # names
        ("∠1 = 65°", 65.0),
        ("angle 1 = 65", 65.0),
        ("m∠1 = 65°", 65.0),
        ("AB=5 cm", 5.0),
        ("f(0) = 7", 7.0),
        ("\\alpha = 65^\\circ", 65.0),
        ("∠1 = 180° - 115° = 65°", 65.0),
        ("3 + 4 = 7", 7.0),
        # words
        ("sixty-five", 65.0),
        ("There are three objects.", 3.0),
        ("Three.", 3.0),
        ("one hundred and five", 105.0),
        ("two thousand", 2000.0),
        ("one half", 0.5),
        ("two thirds", 2 / 3),
        ("two and a half", 2.5),
        ("two point five", 2.5),
        ("a dozen", 12.0),
        ("minus five", -5.0),
        ("three (3)", 3.0),
        ("the one on the left has 3", 3.0),
        ("The two sides add up to 7", 7.0),
        ("六十五", 65.0),
        ("二百零五", 205.0),
        ("五个苹果", 5.0),
        ("三分之二", 2 / 3),
        ("一共有5个三角形", 5.0),
        # separators, powers of ten, magnitudes
        ("1 234 567", 1234567.0),
        ("1\u00a0234\u00a0567", 1234567.0),
        ("1\u202f234", 1234.0),
        ("1’234’567", 1234567.0),
        ("1.234.567", 1234567.0),
        ("1.234,5", 1234.5),
        ("12,34,567", 1234567.0),
        ("2,5", 2.5),
        ("1.2 × 10^3", 1200.0),
        ("1.5 \\times 10^{-4}", 0.00015),
        ("5×10³ kg", 5000.0),
        ("5*10^-1", 0.5),
        ("10^{3}", 1000.0),
        ("5k", 5000.0),
        ("65万", 650000.0),
        ("2.5 million", 2.5e6),
        ("1:4", 0.25),
        ("0.\\overline{3}", 1 / 3),
        # units
        ("9.8 m/s²", 9.8),
        ("9.8 \\text{ m/s}^2", 9.8),
        ("36 km/h", 36.0),
        ("5cm^2^", 5.0),
        ("5 miles per hour", 5.0),
        ("8平方厘米", 8.0),
        ("73 people", 73.0),
        ("12 red apples in the bowl", 12.0),
        ("25 (trees)", 25.0),
        ("about 5", 5.0),
        ("65 N/m", 65.0),
        ("5 kg·m/s", 5.0),
        ("5 nm", 5.0),
        ("5 kWh", 5.0),
        ("$5 per hour", 5.0),
        ("$5/hour", 5.0),
        ("3 zebra", 3.0),
        ("3 people: one man and two women", 3.0),
        ("#3", 3.0),
        ("\\sin A = 0.6", 0.6),
        ("65^{o}", 65.0),
        ("∠1的度数为65°", 65.0),
        ("百分之65", 65.0),
        ("≈ 5", 5.0),
    ],
)
def test_one_number_is_read(text, value):
    assert float(read_quantity(text).value) == pytest.approx(value, rel=1e-12)
    assert score(f"<think>3</think><answer>{text}</answer>", str(value)) == 1.0
    assert score(f"<think>3</think><answer>{text}</answer>", str(value + 10)) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no number",
        "nan",
        "inf",
        "-Infinity",
        "∞",
        "1/0",
        "0/0",
        "3 or 4",
        "(3, 4)",
        "3-4",
        "65° and 25°",
        "1 2 3 4 5 6 7 8 9",
        "1.2.3",
        "5; 5",
        # bounds
        "at least 3",
        "at most 3",
        "more than 3",
        "no more than 3",
        "fewer than 3",
        "over 3",
        "up to 3",
        "3 or more",
        "3 and above",
        "x = 3 or less",
        ">3",
        "<3",
        "≤3",
        "\\ge 3",
        "3 > x",
        "至少3",
        "超过3个",
        "3以上",
        # expressions with unknowns
        "3x",
        "3 x",
        "3n",
        "3i",
        "3°x",
        "x/3",
        "3/x",
        "3 + x",
        "3.0 + PE + PF",
        "AB + 3",
        "3 - x",
        "3(x + 1)",
        # other magnitudes and words behind
        # digits in words
        "H3O",
        "x3",
        "mp3",
        "R3",
        "∠3",
        # denials and refusals
        "3 is wrong",
        "3 is incorrect",
        "3, which is false",
        "anything but 3",
        "It cannot be 3",
        "3?",
        "3 ≠ x",
        "!= 3",
        "I doubt 3",
        "3 is the wrong answer",
        "[3, ∞)",
        "{'min': 3}",
        "max(3)",
        "minimum 3",
        "greater or equal to 3",
        "不止3",
        "det 3",
        "Γ(3)",
        "⌊3⌋",
        "3 λ",
        "the negative of 3",
        "3‰",
        "3 tens",
        "3 lakh",
        "3 sin A",
        "第3",
        "option 3",
        "question 3",
        "3...",
        "three and five",
        "不是3",
        "N/A",
        "There is not enough information to work out the value of f(3).",
        "It cannot be determined from 3",
        "3 or four",
        "3 three 4",
        "1e5 or 1e6",
        "1e5.5",
        "2e3x",
        "1e999",
        "1e" + "9" * 5_000,
        "3 1/0",
        "3 5/2",
        "1 2/3/4",
        "3 1/2 and 4",
        "٦٥",  # digits of other scripts
        "६५",
        "6٥",
        "٦٥°",
        "2^10",
        "2²",
        "√3",
        "3+3",
        "3 + 3",
        "3 cm + 3 cm",
        "3*3",
        "3**3",
        "3×3",
        "3 x 3",
        "3·3",
        "3\\times 3",
        "3 \\cdot 3",
        "3÷3",
        "3(3)",
        "(3)(3)",
        "-3-3",
        "-3 –3",
        "3–5",
        "3–3",
        "3—3",
        "--3",
        "minus -3",
        "3 minus 3",
        "3 plus 3",
        "3 times 3",
        "6/2/3",
        "3!",
        "(3)!",
        "log 3",
        "\\log 3",
        "log_3 3",
        "ln(3)",
        "sin 3",
        "\\sin 3°",
        "sine of 3",
        "sec 3",
        "twice 3",
        "half of 3",
        "square root of 3",
        "3 squared",
        "3 cubed",
        "not 3",
        "not .3e1",
        "It isn't 3",
        "is not equal to 3",
        "≠ 3",
        "\\neq 3",
        "±3",
        "2\\sqrt{3}",
        "\\sqrt 3",
        "5π",
        "5\\pi",
        "\\frac{\\sqrt{3}}{2}",
        "\\frac{",
        "9" * 10_000,
        "1/2/3/" * 2_000,
        "{" * 10_000,
    ],
)
def test_no_number_or_several_are_none(text):
    assert read_quantity(text) is None
    assert score(f"<answer>{text}</answer>", "3") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "x" + " " * 10_000 + "x",
        "\0½ 六\0",
        "\ufdfa" * 10_000,
        "one " * 5_000,
        "一" * 10_000,
        "3, " * 3_000,
        "# " * 5_000,
        "\\frac{" + " " * 3_000,
        ",111" * 2_500,
        "not " * 5_000,
        "3 abcdefgh " * 2_000 + "4",
        "3/" * 5_000,
        "minus " * 5_000,
    ],
)
def test_hostile_lengths_cost_no_time(text):
    start = time.perf_counter()
    assert score(f"<answer>{text}</answer>", "3") == 0.0
    assert time.perf_counter() - start < 0.5  # patterns that backtrack take seconds to minutes


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
