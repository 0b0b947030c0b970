import pytest

from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.length import length
from gpg_vl.types import Sample


def score(text, tokens, gold="5", choices=(), **options):
    completion = parse_completion(text, think_opened=False, token_count=tokens, finish_reason="eos")
    return length(completion, Sample("1", "math", "Solve.", gold, "math", choices), **options)


RIGHT = "<think>a</think>\\boxed{5}"
WRONG = "<think>a</think>\\boxed{6}"


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        # cos(π·t/1000) at 0, 1/4, 1/3, 1/2, 2/3, 3/4 and the whole is 1, √½, ½, 0, -½, -√½, -1.
        (RIGHT, 0, 1.0),
        (RIGHT, 250, 0.926776695),
        (RIGHT, 500, 0.75),
        (RIGHT, 750, 0.573223305),
        (RIGHT, 1000, 0.5),
        (RIGHT, 1001, 0.5),
        (RIGHT, 2000, 0.5),  # the cosine is back at 1
        (RIGHT, 10**9, 0.5),
        (WRONG, 0, -1.0),
        (WRONG, 250, -0.926776695),
        (WRONG, 500, -0.75),
        (WRONG, 750, -0.573223305),
        (WRONG, 1000, -0.5),
        (WRONG, 2000, -0.5),
        (WRONG, 10**9, -0.5),
        # What the other reward cannot parse is wrong, and costs as much.
        ("", 0, -1.0),
        ("", 500, -0.75),
        ("5", 500, -0.75),
        ("\\boxed{", 500, -0.75),
        ("\\boxed{5} or \\boxed{6}", 500, -0.75),
        ("<think>\\boxed{5}</think>", 500, -0.75),
        ("<answer>5", 500, -0.75),
        ("<answer>5</answer><answer>5</answer>", 500, -0.75),
        ("<answer>nan</answer>", 500, -0.75),
        ("<answer>٥</answer>", 500, -0.75),
        ("\\boxed{9^{9^{9^9}}}", 500, -0.75),
        ("\\boxed{" + "5" * 10_000 + "}", 1000, -0.5),
    ],
)
def test_cosine_between_the_bounds(text, tokens, expected):
    assert score(text, tokens, max_tokens=1000) == pytest.approx(expected, rel=1e-8)


def test_defaults_and_other_bounds():
    assert score(RIGHT, 1792) == pytest.approx(0.75)
    assert score(RIGHT, 3584) == 0.5
    bounds = {"min_wrong": -10.0, "max_wrong": 0.0, "min_correct": 1.0, "max_correct": 2.0, "max_tokens": 8}
    assert [score(RIGHT, tokens, **bounds) for tokens in (0, 4, 8)] == pytest.approx([2.0, 1.5, 1.0])
    assert [score(WRONG, tokens, **bounds) for tokens in (0, 4, 8)] == pytest.approx([-10.0, -5.0, 0.0])


def test_shorter_is_better_only_if_right():
    right = [score(RIGHT, tokens, max_tokens=100) for tokens in range(0, 101, 10)]
    wrong = [score(WRONG, tokens, max_tokens=100) for tokens in range(0, 101, 10)]
    assert right == sorted(right, reverse=True)
    assert wrong == sorted(wrong)


def test_another_reward_may_judge():
    text = "<think>a</think><answer>(B)</answer>"
    options = {"accuracy": "choice", "max_tokens": 100, "choices": ("x", "y")}
    assert score(text, 100, gold="(B)", **options) == 0.5
    assert score(text, 100, gold="(A)", **options) == -0.5


def test_what_the_other_reward_cannot_grade_stays_ungraded():
    assert score(RIGHT, 10, gold="") is None
    assert score(RIGHT, 10, gold="red", accuracy="number") is None


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"min_correct": 1.5},
        {"max_wrong": -1.5},
        {"max_wrong": 0.5},
        {"min_wrong": 0.0},
        {"max_correct": float("nan")},
    ],
)
def test_bounds_out_of_order_are_refused(options):
    with pytest.raises(ConfigurationError, match=r"reward 'length' needs .* got"):
        score(RIGHT, 10, **options)


def test_a_judge_that_cannot_judge_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'math'"):
        score(RIGHT, 10, accuracy="maths")
    whole_group = tmp_path / "trl.py"
    whole_group.write_text("def right(completions, **columns):\n    return [1.0] * len(completions)\n")
    for name in ("length", "format", "repetition", f"{whole_group}:right"):
        with pytest.raises(ConfigurationError, match=f"accuracy '{name}' must be another reward"):
            score(RIGHT, 10, accuracy=name)
