from functools import partial

import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import View, answer_text, convert_box
from gpg_vl.registry import rewards
from gpg_vl.rewards.iou import iou
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample
from tests.support.grounding import EXTREME_BOXES, WITHOUT_BOX, answered, completion, grounding, predicting

GOLD = (10, 20, 110, 220)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(10,20),(110,220)", 1.0),
        ("[10, 20, 110, 220]", 1.0),
        ("[10.0, 20.0, 110.0, 220.0]", 1.0),
        ("<|box_start|>(10,20),(110,220)<|box_end|>", 1.0),
        ('```json\n[{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]\n```', 1.0),
        ("It is at\n(10, 20),\n(110, 220).", 1.0),
        ("(10,20),(60,220)", 1 / 2),  # the left half
        ("(35,70),(85,170)", 1 / 4),  # inside
        ("(0,0),(200,400)", 1 / 4),  # around
        ("(60,20),(160,220)", 1 / 3),  # 50·200 of 150·200
        ("(60,120),(160,320)", 1 / 7),  # 50·100 of 2·20,000 − 5,000
        ("(-90,20),(110,220)", 1 / 2),  # half of it beyond the image
        ("(10,20),(110,1000000)", 200 / 999_980),
        ("(-1000000,-1000000),(1000000,1000000)", 20_000 / 4e12),
        ("(110,20),(210,220)", 0.0),  # side by side
        ("(110,220),(210,420)", 0.0),  # corner to corner
        ("(500,500),(600,600)", 0.0),
        ("(110,220),(10,20)", 0.0),  # corners in the wrong order
        ("(110,20),(10,220)", 0.0),
        ("(10,220),(110,20)", 0.0),
        ("(10,20),(10,20)", 0.0),
        ("(10,20),(110,20)", 0.0),
        ("(60,20),(60,220)", 0.0),
        ("(10,20),(110,220) (10,20),(110,220)", 0.0),  # the gold box twice is two boxes
        ("(10,20),(110,220), (0,0),(5,5)", 0.0),
        ("(10,20),(110,220), (5,5),(5,5)", 0.0),
        ("[10, 20, 110, 220], [0, 0, 640, 480]", 0.0),
        ("(0,0),(640,480)" * 10, 0.0),
        ("[10, 20, 110, 220]" * 5_000, 0.0),
    ],
)
def test_score(answer, expected):
    assert iou(answered(answer), grounding([GOLD])) == pytest.approx(expected, rel=1e-12, abs=0)
    for threshold in (0.2, 0.5, 1.0):
        assert iou(answered(answer), grounding([GOLD]), threshold=threshold) == (expected >= threshold)


@pytest.mark.parametrize("text", WITHOUT_BOX)
def test_without_a_box_the_score_is_zero(text):
    assert iou(completion(text), grounding([GOLD])) == 0.0
    assert iou(completion(text), grounding([GOLD]), threshold=0.5) == 0.0


@pytest.mark.parametrize(
    "gold",
    [
        "",
        "[]",
        "a cat",
        "[1, 2, 3]",
        "[NaN, 0, 1, 1]",
        "[0, 0, 1, 1e7]",
        [(0, 0, 1, 1), (2, 2, 3, 3)],
        [(1, 1, 0, 0)],
        [(1, 0, 0, 1)],
        [(0, 0, 0, 5)],
        [(0, 0, 1e-200, 1e-200)],  # its area is no number above 0
    ],
)
def test_a_gold_answer_that_is_not_one_box_cannot_be_graded(gold):
    assert iou(answered("(0,0),(1,1)"), grounding(gold)) is None
    assert iou(completion("no tags"), grounding(gold)) is None


def test_another_kind_of_sample_cannot_be_graded():
    sample = Sample("1", "t", "Which?", "[10, 20, 110, 220]", "label")
    assert iou(answered("(10,20),(110,220)"), sample) is None


def test_extreme_boxes_stay_in_range():
    for gold in ((0, 0, 1 / 3, 640), (-1e6, -1e6, 1e6, 1e6), (0, 0, 1e-9, 1e-9)):
        sample = grounding([gold])
        scores = [iou(predicting(box), sample) for box in EXTREME_BOXES]
        assert min(scores) == 0.0
        assert max(scores) == 1.0
        assert scores.count(1.0) < len(scores) / 100


@pytest.mark.parametrize("space", ["image", "resized", "grid"])
def test_the_gold_answer_in_the_models_space_scores_almost_one(space):
    view = View((640, 480), (812, 560))
    sample = grounding([(33, 77, 501, 402)])
    text = f"<answer>{answer_text(sample, space, view)}</answer>"
    to_image = partial(convert_box, source=space, target="image", view=view)
    assert 0.995 < iou(completion(text, to_image), sample) <= 1.0


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, 50, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ConfigurationError, match=r"threshold must be in \(0, 1\].*got"):
        iou(answered("(0,0),(1,1)"), grounding([GOLD]), threshold=threshold)


@pytest.mark.parametrize("name", ["iou", "giou", "detection", "mask_iou"])
def test_box_rewards_are_installed_as_correctness(name):
    found = rewards.get(name)
    assert (found.name, found.kind) == (name, "correctness")


def test_the_threshold_is_an_option_of_the_configuration():
    answers = [answered("(10,20),(60,220)"), answered("(10,20),(59,220)")]
    scores = Scorer({"iou": {"weight": 2.0, "threshold": 0.5}}).score(grounding([GOLD]), answers)
    assert scores.total == (2.0, 0.0)
