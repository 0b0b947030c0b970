import pytest

from gpg_vl.rewards.giou import giou
from gpg_vl.types import Sample
from tests.support.grounding import EXTREME_BOXES, WITHOUT_BOX, answered, completion, grounding, predicting

GOLD = (10, 20, 110, 220)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(10,20),(110,220)", 2.0),
        ("[10, 20, 110, 220]", 2.0),
        ("<|box_start|>(10,20),(110,220)<|box_end|>", 2.0),
        ('{"bbox_2d": [10, 20, 110, 220], "label": "cat"}', 2.0),
        ("[\n10.0,\n20.0,\n110.0,\n220.0\n]", 2.0),
        ("(10,20),(60,220)", 1 / 2 + 1),
        ("(35,70),(85,170)", 1 / 4 + 1),
        ("(0,0),(200,400)", 1 / 4 + 1),
        ("(60,20),(160,220)", 1 / 3 + 1),
        ("(60,120),(160,320)", 1 / 7 + 35_000 / 45_000),
        ("(-90,20),(110,220)", 1 / 2 + 1),  # beyond the image
        ("(110,20),(210,220)", 0 + 1),  # side by side
        ("(210,20),(310,220)", 0 + 2 / 3),  # one width apart
        ("(110,220),(210,420)", 0 + 1 / 2),  # corner to corner
        ("(1010,20),(1110,220)", 0 + 2 / 11),
        ("(999900,20),(1000000,220)", 0 + 200 / 999_990),
        ("(60,120),(61,121)", 1 / 20_000 + 1),
        ("(0,0),(1000000,1000000)", 20_000 / 1e12 + 1),
        ("(110,220),(10,20)", 0.0),  # corners in the wrong order
        ("(110,20),(10,220)", 0.0),
        ("(10,220),(110,20)", 0.0),
        ("(60,120),(60,120)", 0.0),  # a point inside
        ("(10,20),(10,220)", 0.0),
        ("(10,20),(110,20)", 0.0),
        ("(10,20),(110,220) (10,20),(110,220)", 0.0),
        ("(10,20),(110,220), (5,5),(5,5)", 0.0),
        ("[10, 20, 110, 220], [0, 0, 640, 480]", 0.0),
        ("(0,0),(640,480)" * 10, 0.0),
        ("[10, 20, 110, 220]" * 5_000, 0.0),
    ],
)
def test_score(answer, expected):
    assert giou(answered(answer), grounding([GOLD])) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("text", WITHOUT_BOX)
def test_without_a_box_the_score_is_the_minimum(text):
    assert giou(completion(text), grounding([GOLD])) == 0.0


@pytest.mark.parametrize(
    "gold", ["", "[]", "a cat", "[NaN, 0, 1, 1]", [(0, 0, 1, 1)] * 2, [(1, 1, 0, 0)], [(0, 0, 0, 5)]]
)
def test_a_gold_answer_that_is_not_one_box_cannot_be_graded(gold):
    assert giou(answered("(0,0),(1,1)"), grounding(gold)) is None
    assert giou(completion("no tags"), grounding(gold)) is None


def test_another_kind_of_sample_cannot_be_graded():
    sample = Sample("1", "t", "Which?", "[10, 20, 110, 220]", "label")
    assert giou(answered("(10,20),(110,220)"), sample) is None


def test_extreme_boxes_stay_in_range():
    for gold in ((0, 0, 1 / 3, 640), (-1e6, -1e6, 1e6, 1e6), (0, 0, 1e-9, 1e-9)):
        sample = grounding([gold])
        scores = [giou(predicting(box), sample) for box in EXTREME_BOXES]
        assert min(scores) == 0.0
        assert max(scores) == 2.0
        assert scores.count(2.0) < len(scores) / 100


def test_a_nearer_box_scores_higher_where_none_overlaps():
    sample = grounding([GOLD])
    scores = [giou(predicting((x, 20, x + 100, 220)), sample) for x in range(110, 10_000, 37)]
    assert scores == sorted(set(scores), reverse=True)
