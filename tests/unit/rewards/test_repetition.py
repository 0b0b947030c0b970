import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.repetition import repetition
from gpg_vl.types import Sample
from tests.support.cpu_time import within_cpu_seconds

SAMPLE = Sample("1", "t", "Q?", "(A)", "choice", ("x", "y"))


def score(text, **options):
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    return repetition(completion, SAMPLE, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        (" \n\t ", 0.0),
        ("a", 0.0),
        ("a a", 0.0),  # no three words
        ("a a a", 0.0),  # one triple, said once
        ("a a a a", -1 / 2),
        ("a a a a a", -2 / 3),
        ("A a A a", -1 / 2),
        ("a b c", 0.0),
        ("a b c d e f g", 0.0),
        ("a b c a b c", -1 / 4),
        ("a b c a b c a b c", -4 / 7),
        ("A b\nC  a\tB c", -1 / 4),
        ("a, b. c a b c", 0.0),  # punctuation belongs to its word
        ("a b c x a b c", -1 / 5),
        ("<think>a</think><answer>(A)</answer>", 0.0),
        ("<answer></answer> <answer></answer> <answer></answer> <answer></answer>", -1 / 2),
        ("wait " * 1_002, -999 / 1000),
        ("想一想", 0.0),
        ("想一想想一想", -1 / 4),
        ("はいはいはい", -2 / 4),
        ("ab想一想ab想一想", -1 / 6 * 2),
        ("한국어 한국어 한국어 한국어", -1 / 2),  # Korean has spaces
        ("1 1 1 1", -1 / 2),
        ("٦ ٦ ٦ ٦", -1 / 2),
        ("nan nan nan nan", -1 / 2),
        ("(A) (B) (C) (D)", 0.0),
        ("x" * 10_000, 0.0),  # one word
        (" ".join(map(str, range(10_000))), 0.0),
    ],
)
def test_share_of_triples_said_before(text, expected):
    assert score(text) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("ngram", "expected"), [(1, -3 / 5), (2, -2 / 4), (3, -1 / 3), (4, 0.0), (5, 0.0), (6, 0.0)]
)
def test_length_of_the_ngrams(ngram, expected):
    assert score("a b a b a", ngram=ngram) == pytest.approx(expected, rel=1e-9)


def test_the_penalty_scales():
    assert score("a a a a", max_penalty=0.2) == pytest.approx(-0.1)
    assert str(score("a a a a", max_penalty=0.0)) == "0.0"
    assert str(score("a b c")) == "0.0"


def test_a_long_loop_costs_no_time():
    with within_cpu_seconds(1):
        assert -1 < score("no, wait. " * 50_000) < -0.99


@pytest.mark.parametrize(
    "options",
    [
        {"ngram": 0},
        {"ngram": -1},
        {"max_penalty": -1.0},
        {"max_penalty": float("inf")},
        {"max_penalty": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=r"needs ngram >= 1 and a finite max_penalty >= 0, got"):
        score("a", **options)
