import numpy as np
import pytest

from gpg_vl.rewards.detection import detection
from gpg_vl.types import Sample
from tests.support.cpu_time import within_cpu_seconds
from tests.support.grounding import EXTREME_BOXES, WITHOUT_BOX, answered, completion, grounding, predicting

TWO = [(0, 0, 10, 10), (20, 0, 30, 10)]
A, B = "(0,0),(10,10)", "(20,0),(30,10)"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"{A}, {B}", 1.0),
        (f"{B}, {A}", 1.0),
        ("[[0, 0, 10, 10], [20, 0, 30, 10]]", 1.0),
        (f"<|box_start|>{A}<|box_end|><|box_start|>{B}<|box_end|>", 1.0),
        (f"{A}\nand {B}", 1.0),
        ('```json\n[{"bbox_2d": [20, 0, 30, 10]},\n {"bbox_2d": [0, 0, 10, 10]}]\n```', 1.0),
        (A, 1 / 2),
        (B, 1 / 2),
        (f"{A}, {A}", 1 / 2),  # the second one matches nothing
        (f"{A}, {B}, {A}", 2 / 3),
        (f"{A}, {B}, {A}, {B}", 2 / 4),
        (f"{A}, {B}, (500,500),(600,600)", 2 / 3),
        (f"{A}, (0,0),(0,0)", 1 / 2),  # no area: predicted, but overlaps nothing
        (f"{A}, {B}, (0,0),(0,0)", 2 / 3),
        (f"{A}, (30,10),(20,0)", 1 / 2),  # corners in the wrong order
        (f"{A}, {B}, (30,10),(20,0)", 2 / 3),
        ("(10,10),(0,0), (30,10),(20,0)", 0.0),
        ("(0,0),(5,10), (20,0),(30,5)", 1 / 2),
        ("(0,0),(5,10), (20,0),(30,10)", 3 / 4),
        ("(-10,0),(10,10), (20,0),(40,10)", 1 / 2),  # halves beyond the image
        ("(0,0),(30,10)", 1 / 3 / 2),  # one box around both
        ("(0,0),(30,10), (0,0),(30,10)", 1 / 3),
        ("(0,0),(30,10)" * 10, 2 / 3 / 10),
        ("(10,0),(20,10)", 0.0),
        ("(100,100),(200,200), (300,300),(400,400)", 0.0),
        (", ".join([A, B] * 500), 2 / 1000),
        (", ".join([A, B] * 500 + [A]), 0.0),  # more than 1,000 are no prediction
        (", ".join([A] * 9_000), 0.0),
    ],
)
def test_score(answer, expected):
    assert detection(answered(answer), grounding(TWO)) == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_matching_is_the_best_and_not_the_greedy_one():
    gold = [(5, 0, 15, 1), (10, 0, 20, 1)]
    predicted = predicting((7, 0, 17, 1), (0, 0, 10, 1))
    # Taking the greatest overlap first (8/12) would leave the second box nothing.
    assert detection(predicted, grounding(gold)) == pytest.approx((7 / 13 + 1 / 3) / 2, rel=1e-12)


@pytest.mark.parametrize("text", WITHOUT_BOX)
def test_without_a_box_the_score_is_zero(text):
    assert detection(completion(text), grounding([(10, 20, 110, 220)])) == 0.0
    assert detection(completion(text), grounding([(10, 20, 110, 220), *TWO])) == 0.0


@pytest.mark.parametrize(
    "gold", ["", "[]", "a cat", "[NaN, 0, 1, 1]", [(1, 1, 0, 0)], [*TWO, (0, 0, 0, 5)], [*TWO, (9, 9, 8, 8)]]
)
def test_a_gold_answer_that_nothing_could_match_cannot_be_graded(gold):
    assert detection(answered(A), grounding(gold)) is None
    assert detection(completion("no tags"), grounding(gold)) is None


def test_another_kind_of_sample_cannot_be_graded():
    assert detection(answered(A), Sample("1", "t", "Which?", "[0, 0, 10, 10]", "label")) is None


def test_extreme_boxes_stay_in_range():
    for gold in ([(0, 0, 1 / 3, 640)], [(-1e6, -1e6, 1e6, 1e6), (0, 0, 1e-9, 1e-9)]):
        sample = grounding(gold)
        scores = [detection(predicting(*EXTREME_BOXES[i : i + 3]), sample) for i in range(4000)]
        assert min(scores) == 0.0
        assert 0.1 < max(scores) <= 1.0


@pytest.mark.parametrize("predicted", ["random", "same"])
def test_a_thousand_boxes_are_matched_quickly(predicted):
    corners = np.random.default_rng(0).uniform(0, 900, (1000, 2))
    gold = np.hstack([corners, corners + 50]).tolist()
    answer = predicting(*(gold[::-1] if predicted == "random" else [(0, 0, 1000, 1000)] * 1000))
    with within_cpu_seconds(1):  # 0.1 to 0.3 s where nothing else runs
        expected = 1.0 if predicted == "random" else 0.0025
        assert detection(answer, grounding(gold)) == pytest.approx(expected, rel=1e-9)
