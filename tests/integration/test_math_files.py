"""The converter `math` on the real benchmarks and training sets."""

import pytest
from math_verify import parse

from gpg_vl.data_prep.math_sets import math_sets
from tests.support.drafts import written
from tests.support.inputs import SHARED

ROWS = {
    "aime24": 30,
    "amc23": 83,
    "asdiv": 1788,
    "gsm8k_2k": 2000,
    "math500": 500,
    "minerva": 272,
    "olympiadbench": 675,
}
UNPARSED = {
    "minerva": {"minerva-28", "minerva-267", "minerva-271"},
    "olympiadbench": {"olympiadbench-35", "olympiadbench-97"},
}
"""Golds that math-verify only compares as text: a differential equation, names without values, `t(0,4]`."""


def source(name):
    file = SHARED / "data" / "math" / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file.name} beside the checkout")
    return str(file)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_converted(tmp_path, name):
    samples = written(math_sets(source(name)), tmp_path / "out")
    assert len(samples) == ROWS[name]
    assert {sample.task for sample in samples} == {f"math/{name}"}
    assert all(sample.question == sample.question.strip() != "" for sample in samples)
    for answer in (answer for sample in samples for answer in forms(sample)):
        assert answer == answer.strip() != ""
        assert "boxed" not in answer and "####" not in answer


def test_levels_of_math500():
    drafts = list(math_sets(source("math500"), levels="3-5"))
    assert len(drafts) == 367
    assert {draft().meta["difficulty"] for draft in drafts} == {3.0, 4.0, 5.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_math_verify_reads_the_answers(name):
    unparsed = set()
    for sample in (draft() for draft in math_sets(source(name))):
        for answer in forms(sample):
            if all(isinstance(part, str) for part in parse(f"\\boxed{{{answer}}}")):
                unparsed.add(sample.id)
    assert unparsed == UNPARSED.get(name, set())


def forms(sample):
    """The answer and the other ways to write it."""
    return [sample.answer, *sample.meta.get("alternatives", ())]
