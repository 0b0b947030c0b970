"""The image with boxes over it, and whose boxes those are."""

import re

import pytest
from PIL import Image

from gpg_vl.demo.parts.picture import picture_with_boxes
from gpg_vl.demo.service.layers import Layer, best_iou, stored_layer, voted, with_gold
from gpg_vl.demo.service.verdicts import Verdict
from gpg_vl.types import Sample

IMAGE = Image.new("RGB", (200, 100), "white")
GOLD = (10.0, 20.0, 60.0, 80.0)
HALF = (10.0, 20.0, 60.0, 50.0)
WHERE = Sample("w", "t", "Where?", "[[10, 20, 60, 80]]", "boxes", images=(IMAGE,))


def titles(markup: str) -> list[str]:
    return re.findall("<title>(.*?)</title>", markup)


def legend(markup: str) -> list[str]:
    return re.findall(r"</i>(.*?)</label>", markup)


def test_boxes_are_in_pixels_of_the_image_and_say_their_iou():
    layers = {"gold": Layer([[GOLD]]), "base": Layer([[]]), "trained": Layer([[HALF]])}
    shown = picture_with_boxes(IMAGE, layers, "Where?")
    assert 'viewBox="0 0 200 100"' in shown
    assert 'class="line" x="10" y="20" width="50" height="30"' in shown
    assert titles(shown) == ["Gold: 10, 20, 60, 80", "Trained: 10, 20, 60, 50 · IoU 0.50"]
    assert legend(shown) == ["Gold: 1 box", "Base: no box", "Trained: IoU 0.50"]
    assert '<span class="iou trained" style="left:max(30.00%, 2.6rem);top:20.00%">0.50</span>' in shown
    assert shown.count('type="checkbox"') == 3
    assert "\n" not in shown  # one block for Markdown


def test_an_image_larger_than_the_picture_keeps_its_pixels():
    shown = picture_with_boxes(Image.new("RGB", (4000, 2000)), {"gold": Layer([[(0, 0, 4000, 900)]])}, "")
    assert 'viewBox="0 0 4000 2000"' in shown and 'width="4000" height="900"' in shown


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ((-5, 90, 30, 140), 'x="0" y="90" width="30" height="10"'),
        ((300, 300, 400, 400), 'x="200" y="100" width="0" height="0"'),
    ],
)
def test_what_lies_outside_is_cut_and_told(said, seen):
    shown = picture_with_boxes(IMAGE, {"trained": Layer([[said]])}, "")
    assert seen in shown
    assert titles(shown) == [f"Trained: {', '.join(map(str, said))} · reaches outside the image"]
    assert legend(shown) == ["Trained: 1 box · reaches outside"]


def test_corners_in_any_order_are_drawn():
    shown = picture_with_boxes(IMAGE, {"trained": Layer([[(60, 80, 10, 20)]])}, "")
    assert 'x="10" y="20" width="50" height="60"' in shown and "outside" not in shown


def test_of_several_answers_the_voted_one_is_strong():
    """Those that agree share a frame; the strong one is drawn last, and alone has a label."""
    layers = {"gold": Layer([[GOLD]]), "trained": Layer([[GOLD], [HALF], [], [GOLD]], 0)}
    shown = picture_with_boxes(IMAGE, layers, "")
    trained = shown.partition('<g class="layer trained">')[2]
    assert titles(trained) == [
        "Trained, answer 2 of 4: 10, 20, 60, 50 · IoU 0.50",
        "Trained, answer 1, 4 of 4: 10, 20, 60, 80 · IoU 1.00",
    ]
    assert re.findall('<g class="(strong|pale)">', trained) == ["pale", "strong"]
    assert shown.count('class="iou') == 1
    assert legend(shown)[1] == "Trained: IoU 1.00 · 4 answers, 3 with boxes"


def test_nothing_that_others_wrote_is_markup():
    shown = picture_with_boxes(IMAGE, {"base": Layer([[GOLD]])}, '"><b>', titles={"base": "<i>\n&"})
    assert "<b>" not in shown and "<i>" not in shown
    assert "&lt;i&gt; &amp;: 10" in shown


def test_the_plain_image_is_offered_where_it_can_be_replaced():
    layers = {"gold": Layer([[GOLD]])}
    assert 'class="plain"' not in picture_with_boxes(IMAGE, layers, "")
    assert 'class="plain"' in picture_with_boxes(IMAGE, layers, "", replaceable=True)


def test_the_vote_chooses_the_strong_answer():
    answers = [[HALF], [GOLD], [GOLD]]
    assert voted(answers, [Verdict("x"), Verdict("y"), Verdict("y")]).strong == 1
    assert voted(answers, []).strong is None  # not judged yet
    assert voted([[GOLD]], []).strong == 0


def test_stored_answers_of_several_samples_have_all_their_boxes():
    samples = [
        {"answer": text, "boxes": [list(box)]} for text, box in (("h", HALF), ("g", GOLD), ("g", GOLD))
    ]
    assert stored_layer({"samples": samples}) == Layer([[HALF], [GOLD], [GOLD]], 1)
    assert stored_layer({"answer": None}) == Layer([[]])


def test_boxes_are_drawn_once_somebody_answered():
    trained = Layer([[HALF]])
    assert with_gold(WHERE, {}) == {}
    assert list(with_gold(WHERE, {"trained": trained})) == ["gold", "trained"]
    unknown = Sample("w", "t", "Where?", "", "boxes", images=(IMAGE,))
    assert with_gold(unknown, {"trained": trained}) == {"trained": trained}
    assert with_gold(Sample("w", "t", "Where?", "(A)", "choice", images=(IMAGE,)), {"base": trained}) == {}


def test_the_iou_is_with_the_gold_box_that_fits_best():
    assert best_iou(HALF, [(100, 0, 200, 90), GOLD]) == 0.5
    assert best_iou(HALF, []) is None
    assert best_iou(HALF, [(5, 5, 5, 9)]) is None  # no area: nothing could fit
