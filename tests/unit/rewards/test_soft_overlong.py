import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.soft_overlong import soft_overlong
from gpg_vl.types import Sample

SAMPLE = Sample("1", "t", "Q?", "(A)", "choice", ("x", "y"))


def score(tokens, text="<think>a</think><answer>(A)</answer>", finish_reason="eos", **options):
    completion = parse_completion(text, think_opened=False, token_count=tokens, finish_reason=finish_reason)
    return soft_overlong(completion, SAMPLE, **options)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (0, 0.0),
        (1, 0.0),
        (799, 0.0),
        (800, 0.0),
        (801, -0.005),
        (850, -0.25),
        (900, -0.5),
        (950, -0.75),
        (999, -0.995),
        (1000, -1.0),
        (1001, -1.0),
        (10**9, -1.0),
    ],
)
@pytest.mark.parametrize(
    ("text", "finish_reason"),
    [("", "eos"), ("<answer>(A)</answer>", "stop"), ("no answer", "length"), ("NaN " * 2_500, "length")],
)
def test_only_the_number_of_tokens_counts(tokens, expected, text, finish_reason):
    assert score(tokens, text, finish_reason, max_tokens=1000, cache=200) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(16_384, 0.0), (16_385, -1 / 4096), (18_432, -0.5), (20_480, -1.0)]
)
def test_defaults_are_those_of_the_paper(tokens, expected):
    assert score(tokens) == pytest.approx(expected, rel=1e-9)


def test_the_cache_may_be_everything():
    assert [score(t, max_tokens=4, cache=4) for t in range(6)] == [0.0, -0.25, -0.5, -0.75, -1.0, -1.0]


@pytest.mark.parametrize(("max_tokens", "cache"), [(10, 0), (10, -1), (10, 11), (0, 0), (-5, 2)])
def test_options_out_of_range_are_refused(max_tokens, cache):
    with pytest.raises(ConfigurationError, match=r"needs 0 < cache <= max_tokens, got cache"):
        score(1, max_tokens=max_tokens, cache=cache)
