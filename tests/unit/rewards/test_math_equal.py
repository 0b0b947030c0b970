import subprocess
import sys
from pathlib import Path

import pytest

from gpg_vl.prompting.prompts import Prompt, parse_completion
from gpg_vl.registry import rewards
from gpg_vl.rewards.math_equal import math_equal
from gpg_vl.types import Sample
from tests.support.cpu_time import within_cpu_seconds

ROOT = Path(__file__).resolve().parents[3]


def score(text, gold, think_opened=False, **meta):
    completion = parse_completion(text, think_opened=think_opened, token_count=1, finish_reason="eos")
    return math_equal(completion, Sample("1", "math", "Solve.", gold, "math", meta=meta))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("65", "65"),
        ("65.0", "65"),
        ("65.", "65"),
        ("$65$", "65"),
        ("\\(65\\)", "65"),
        ("\\text{65}", "65"),
        ("\\boxed{65}", "65"),
        ("６５", "65"),
        ("65 cm", "65"),
        ("65\\text{ cm}^2", "65"),
        ("\\$65", "65"),
        ("145", "145°"),
        ("145°", "145"),
        ("145^\\circ", "145°"),
        ("145 degrees", "145°"),
        ("145º", "145^{\\circ}"),
        ("145˚", "145"),
        ("-5", "−5"),
        ("0.75", "3/4"),
        ("\\frac34", "3/4"),
        ("\\dfrac{6}{8}", "\\frac{3}{4}"),
        ("\\frac 3 4", "3/4"),
        ("½", "0.5"),
        ("0.333333", "1/3"),
        ("75\\%", "3/4"),
        ("3 1/2", "3.5"),
        ("3½", "7/2"),
        ("3\\frac{1}{2}", "3.5"),
        ("1,234", "1234"),
        ("1{,}234", "1234"),
        ("1\\,234", "1234"),
        ("1 234 567", "1234567"),
        ("1e5", "100000"),
        ("4.4 \\times 10^7", "4.4e7"),
        ("6.6\\cdot10^{-34}", "6.6e-34"),
        ("\\frac{1}{3000}", "0.000333333"),
        ("\\sqrt{12}", "2\\sqrt{3}"),
        ("2√3", "2\\sqrt{3}"),
        ("√(12)", "2√3"),
        ("\\frac{1}{\\sqrt2}", "\\sqrt{2}/2"),
        ("2π", "2\\pi"),
        ("\\log_2 8", "3"),
        ("(x+1)^2", "x^2+2x+1"),
        ("x² + 2x + 1", "(x+1)^2"),
        ("x=5", "5"),
        ("5", "x=5"),
        ("(1, 2)", "(1,2)"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)"),
        ("2, 1", "1,2"),
        ("\\{1, 2\\}", "1,2"),
        ("1 \\text{ and } 2", "$1$, $2$"),
        ("[1, 2)", "x \\in [1,2)"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("\\infty", "\\infty"),
        ("\\text{Evelyn}", "Evelyn"),
        ("evelyn", "\\text{Evelyn}"),
        ("(A)", "A"),
        ("2^{2^{10}}", "2^{2^{10}}"),
        # numeric logarithms, which sympy cannot simplify in time
        ("\\log_2 3", "\\log_2 3"),
        ("\\frac{\\ln 3}{\\ln 2}", "\\log_2 3"),
        ("\\ln 3/\\ln 2", "\\log_2 3"),
        ("log_2(3)", "\\log_{2}3"),
        ("\\frac{\\log 3}{\\log 2} + 1", "\\log_2 3 + 1"),
        ("\\frac12\\ln 3", "\\ln\\sqrt{3}"),
        ("x=\\log_2 3", "x=\\frac{\\ln 3}{\\ln 2}"),
        ("\\log_2 3, \\log_2 5", "\\frac{\\ln 5}{\\ln 2}, \\log_2 3"),
        # plain text
        ("4*pi", "4\\pi"),
        ("pi*4", "4\\pi"),
        ("9pi", "9\\pi"),
        ("pi/2", "\\frac{\\pi}{2}"),
        ("1/2 π", "\\frac{\\pi}{2}"),
        ("2·√3", "2\\sqrt{3}"),
        ("2sqrt(3)", "2\\sqrt{3}"),
        ("(-∞,3]", "(-\\infty,3]"),
        ("1 - \\frac{1}{\\mathrm{e}}", "1-\\frac{1}{e}"),
        # numbers with units, and around words
        ("16π cm²", "16\\pi"),
        ("16pi cm^2", "16\\pi"),
        ("5 dollars", "5"),
        ("5 m/s^2", "5"),
        ("8厘米", "8"),
        ("9", "9 (apples)"),
        ("36", "36 (sq. inches)"),
        ("∠1=65°", "65"),
        ("\\approx 3.14", "3.14"),
        ("5\\text{ million}", "5000000"),
        ("one half", "\\frac{1}{2}"),
        ("The answer is 65", "65"),
        ("1/3", "0.\\overline{3}"),
        # sets
        ("1 \\le x < 2", "[1,2)"),
        ("(-\\infty,3]", "x \\le 3"),
        ("x<0 \\text{ or } x>1", "(-\\infty,0)\\cup(1,\\infty)"),
        ("\\{x \\mid x>2\\}", "(2,\\infty)"),
        ("\\frac{5 + \\sqrt{61}}{18}, \\frac{5 - \\sqrt{61}}{18}", "\\frac{5 \\pm \\sqrt{61}}{18}"),
        ("x=2, x=-2", "x=\\pm 2"),
        # lists
        ("1或2", "1,2"),
        ("1、2", "1,2"),
        ("1和2", "1,2"),
        # words
        ("an ellipse", "\\text{ellipse}"),
        ("June 20", "\\text{June 20}"),
        ("3:30 PM", "3:30 p.m."),
        ("no", "\\text{No}"),
        ("C. 5", "C"),
    ],
)
def test_the_same_value_in_another_form_is_right(answer, gold):
    assert score(f"<think>9</think><answer>{answer}</answer>", gold) == 1.0
    assert score(f"<think>9</think>It is $\\boxed{{{answer}}}$.", gold) == 1.0
    assert score(f"<think>9</think><answer>{answer}</answer>", "17/19") == 0.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("", "65"),
        (" ", "0"),
        ("\\text{}", "0"),
        ("650", "65"),
        ("-65", "65"),
        ("0.33", "1/3"),
        ("nan", "65"),
        ("nan", "0"),
        ("\\infty", "65"),
        ("1/0", "0"),
        ("0/0", "0"),
        ("\\frac{65}{", "65"),
        ("}65{", "65"),
        ("65 or 66", "65"),
        ("66 or 65", "65"),
        ("65, 66", "65"),
        ("\\{65, 66\\}", "65"),
        ("65\\text{ or }66", "65"),
        ("65\\text{ or 66}", "65"),
        ("65 \\mathrm{66}", "65"),
        ("not 65", "65"),
        ("x>65", "65"),
        ("x \\ne 65", "65"),
        ("65 \\pm 1", "65"),
        ("?! \\frac{1}{2}", "1/2"),  # math-verify would look no further than the fraction
        ("\\log\\infty²", "65"),  # to math-verify these equal nearly any number
        ("\\log\\infty²", "1,2"),
        ("|\\infty|", "0.25"),
        ("|\\infty|", "\\pi"),
        ("5+|\\infty|", "6e-7"),
        ("\\sqrt{-\\infty}", "6e-7"),
        ("\\log \\infty", "\\pi"),
        ("5-\\infty", "6e-7"),
        ("\\infty = 65", "65"),
        ("|\\log 0|", "0.25"),
        ("|\\log 0|", "\\pi"),
        ("\\log\\log_0 5", "65"),
        ("\\log\\log_0 5", "3\\sqrt{2}"),
        ("the answer ?! is $65$", "65"),
        ("3 5", "8"),  # math-verify would add up
        ("3\\,5", "8"),
        ("3\\quad 5", "8"),
        ("1", "1,2"),
        ("(2,1)", "(1,2)"),
        ("[1,2]", "(1,2)"),
        ("y=5", "x=5"),
        ("x", "y"),
        ("seat", "east"),
        ("\\text{teas}", "\\text{east}"),
        ("Yes", "No"),
        ("0", "6.6e-34"),
        ("0.0", "6.6 \\times 10^{-34}"),
        ("9.9 \\times 10^{-34}", "6.6 \\times 10^{-34}"),
        ("x", "6.6e-34"),
        ("1,2", "6.6e-34"),
        ("٦٥", "65"),
        ("\\boxed", "65"),
        ("\\boxed{65", "65"),
        ("<answer>65", "65"),
        ("\\log_2 5", "\\log_2 3"),
        ("1 + \\frac{1}{\\mathrm{e}}", "1 - \\frac{1}{\\mathrm{e}}"),
        ("\\frac{1}{3 \\cdot 2^{1006}}", "\\frac{2^{1005}+1}{3 \\cdot 2^{1006}}"),
        ("2^{1006}+1", "2^{1006}"),
        ("65\\text{x}", "65"),
        ("65\\mathrm{i}", "65"),
        ("65\\text{pi}", "65"),
        ("65\\text{ thousand}", "65"),
        ("65\\text{ squared}", "65"),
        ("65\\text{ is wrong}", "65"),
        ("65\\text{ does not work}", "65"),
        ("at least 65", "65"),
        ("x \\ge 65", "65"),
        ("1", "x+z=1"),
        ("11a+c", "7=11a+c"),
        ("\\{1,2\\}", "(1,2)"),
        ("[3, \\frac{\\pi}{2}]", "(3, \\frac{\\pi}{2})"),
        ("\\{-1,3\\}", "\\{x|-1<x<3\\}"),
        ("(1,2]", "[1,2)"),
        ("x<2", "x>2"),
        ("y>2", "x>2"),
        ("1010_3", "1010_2"),
        ("1010_2", "1010"),
        ("la", "Al"),
        ("D. 5", "C"),
        ("C or D", "C"),
        ("3:30 AM", "3:30 p.m."),
        ("0.28\\%", "0.28"),
        ("10^{-9}", "0"),
        ("3.0000004", "3"),
        ("f'(3)", "3"),
        ("\\text{Option }3", "3"),
        ("\\text{June }3", "3"),
        ("3^{0}", "3"),
        ("3=", "3"),
        ("3...", "3"),
        ("x+y=3", "3"),
        ("2x=3", "3"),
        ("4=3", "3"),
        ("|x|=3", "3"),
        ("(x+1),(x+2)", "(x+1)(x+2)"),
        ("5 GB", "5 MB"),
        ("8 \\equiv 3", "3"),
        ("C: D", "C"),
        ("3=y", "x=3"),
        ("\\{(1,2)\\}", "\\{1,2\\}"),
    ],
)
def test_another_value_several_or_none_are_wrong(answer, gold):
    assert score(f"<think>{gold}</think><answer>{answer}</answer>", gold) == 0.0
    assert score(f"\\boxed{{{answer}}}", gold) == 0.0


@pytest.mark.parametrize(
    "gold",
    [
        *(
            "\\mathrm{e}",
            "1+\\mathrm{i}",
            "x=0, x=\\pm 2",
            "\\approx 17.1",
            "R=1, I=(-1,1)",
            "0.333...",
            "相交",
        ),
        *("k\\pi+\\frac{\\pi}{2},k\\in\\mathbb{Z}", "12:00", "①③", "A、B", "是", "8人", "3 5", "E_1, E_2"),
        *("\\begin{cases}x=1\\\\y=2\\end{cases}", "a \\text{ if } b", "٦٥", "\\{x|x>2\\}"),
    ],
)
def test_the_same_text_is_right_for_any_gold_answer(gold):
    assert score(f"\\boxed{{{gold}}}", gold) == 1.0
    assert score(f"<think>a</think><answer>$ {gold} $.</answer>", gold) == 1.0
    assert score("\\boxed{7/13}", gold) == 0.0


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("5", ""),
        ("\\frac{1}{2}", ""),
        ("\\text{Tuesday}", ""),
        ("x^2+1", ""),
        ("8 cm", ""),
        ("E_1, E_2", "gold answer comparable only as a text"),
        ("①③", "gold answer comparable only as a text"),
        ("\\frac{1}{", "gold answer is empty or its braces do not match"),
    ],
)
def test_what_cannot_be_read_is_told(gold, reason):
    assert rewards.get("math").unreadable(Sample("1", "math", "Solve.", gold, "math")) == reason


def test_of_several_right_answers_one_that_can_be_parsed_is_enough():
    assert score(r"\boxed{5}", "E_1, E_2", alternatives=["5"]) == 1.0
    assert score(r"\boxed{5}", "65}", alternatives=["3 5"]) == 0.0
    assert score(r"\boxed{3 5}", "65}", alternatives=["3 5"]) == 1.0
    assert score(r"\boxed{5}", "65}", alternatives=[r"\frac{1}{"]) is None


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^9}}",
        "9^{9^9}",
        "9^{(9^{9^9})}",
        "10^{10000000}",
        "9⁹⁹⁹⁹⁹⁹⁹⁹",
        "x^{9^{9^9}}",
        "\\sqrt[9^{9^9}]{5}",
        "10000000!",
        "(9^9)^{1000000!}",
        "((9!)!)!",
        "9!!!!",
        "\\binom{1000000}{500000}",
        "(9^{99999})^{9999}",
        "\\sum_{k=1}^{99999}\\frac{1}{k}",
        "\\sum_{k=1}^{9999}\\frac{1}{k^3+1}",
        "\\gcd(99999!,7)",
        "(" * 400 + "5" + ")" * 400,
        "\\frac{1}{" * 90 + "2" + "}" * 90,
        "\\sin(" * 60 + "5" + ")" * 60,
        "1+" * 5_000 + "1",
        "5" * 10_000,
        "{" * 10_000,
        "\\boxed{" * 2_000,
        "\\boxed{5}" * 2_000 + "\\boxed{6}",
        " " * 10_000 + "6",
        "5," * 5_000,
        "a " * 5_000,
    ],
)
def test_what_would_take_minutes_or_all_memory_is_refused_at_once(answer):
    score("\\boxed{1}", "5")  # the first call makes math-verify's patterns
    with within_cpu_seconds(0.5):
        assert score(f"<answer>{answer}</answer>", "5") == 0.0


@pytest.mark.parametrize("gold", ["", " ", "\\frac{1}{", "$", "65}"])
def test_a_gold_answer_that_cannot_be_parsed_cannot_be_graded(gold):
    assert score("<answer>5</answer>", gold) is None
    assert score("", gold) is None


@pytest.mark.parametrize("prompt", [Prompt(), Prompt("base")])
@pytest.mark.parametrize("gold", ["3/4", "x=5", "145°", "(1,2)", "\\text{Evelyn}", "62.5\\%", "1 \\pm 2i"])
def test_the_gold_answer_itself_is_right(prompt, gold):
    assert score(prompt.completion_target(gold), gold, prompt.opens_think) == 1.0


def test_it_works_off_the_main_thread_and_says_nothing():
    code = (
        "import threading; from tests.unit.rewards.test_math_equal import score; "
        "threading.Thread(target=lambda: print(score('\\\\boxed{0.5}', '1/2'))).start()"
    )
    command = [sys.executable, "-W", "error", "-c", code]  # the first call in a process is the one that warns
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (output.stdout, output.stderr) == ("1.0\n", "")


def test_it_has_a_deadline():
    assert rewards.get("math").deadline == 5.0
