import pytest
from gpg_vl_shouting import shouting

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.types import Sample

SAMPLE = Sample("1", "task", "Which?", "(A)", "choice", ("red", "blue"))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("", 0.0),
        ("12 + 3", 0.0),
        ("quiet", 0.0),
        ("Quiet", 0.0),  # a fifth: at the limit
        ("LOUD", 1.0),
        ("LOud", 0.375),  # (1/2 - 1/5) / (4/5)
        ("ΛΟΥΔ", 1.0),
        ("x" * 10_000, 0.0),
    ],
)
def test_share_of_capitals(text, score):
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    assert shouting(completion, SAMPLE) == pytest.approx(score)


def test_limit():
    completion = parse_completion("LOud", think_opened=False, token_count=1, finish_reason="eos")
    assert shouting(completion, SAMPLE, limit=0.0) == pytest.approx(0.5)
