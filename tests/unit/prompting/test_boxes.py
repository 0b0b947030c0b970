"""Boxes in text, and their way between the stored image and what a model writes."""

from functools import partial

import pytest

from gpg_vl.errors import DataError
from gpg_vl.prompting.boxes import format_boxes, read_boxes
from gpg_vl.prompting.prompts import View, answer_text, convert_box
from gpg_vl.types import Sample
from tests.support.cpu_time import within_cpu_seconds
from tests.support.grounding import WITHOUT_BOX, completion, grounding

BOX = (10.0, 20.0, 110.0, 220.0)
VIEW = View(stored=(640, 480), resized=(812, 560))


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("(10,20),(110,220)", [BOX]),
        ("( 10 , 20 ) , ( 110 , 220 )", [BOX]),
        ("(10,20)(110,220)", [BOX]),
        ("(10, 20) (110, 220)", [BOX]),
        ("((10,20),(110,220))", [BOX]),
        ("[(10,20),(110,220)]", [BOX]),
        ("[10, 20, 110, 220]", [BOX]),
        ("[10,20,110,220]", [BOX]),
        ("[\n  10,\n  20,\n  110,\n  220\n]", [BOX]),
        ("(10, 20, 110, 220)", [BOX]),
        ("[[10, 20, 110, 220]]", [BOX]),
        ("<|box_start|>(10,20),(110,220)<|box_end|>", [BOX]),
        ("<|box_start|>[10, 20, 110, 220]<|box_end|>", [BOX]),
        ("<|object_ref_start|>cat 2<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>", [BOX]),
        ('{"bbox_2d": [10, 20, 110, 220], "label": "cat"}', [BOX]),
        ('```json\n[\n\t{"bbox_2d": [10, 20, 110, 220], "label": "cat (1)"}\n]\n```', [BOX]),
        ('[{"bbox_2d":[10,20,110,220]},{"bbox_2d":[1,2,3,4],"label":"b"}]', [BOX, (1, 2, 3, 4)]),
        ("{'bbox_2d': '[10, 20, 110, 220]'}", [BOX]),
        ("[[10, 20, 110, 220], [1, 2, 3, 4]]", [BOX, (1, 2, 3, 4)]),
        ("(10,20),(110,220),(1,2),(3,4)", [BOX, (1, 2, 3, 4)]),
        ("(10,20),(110,220), (1,2),(3,4)", [BOX, (1, 2, 3, 4)]),
        ("(10,20),(110,220)\n(1,2),(3,4)", [BOX, (1, 2, 3, 4)]),
        ("(10,20),(110,220) and [1, 2, 3, 4]", [BOX, (1, 2, 3, 4)]),
        ("(10,20),(110,220),(1,2)", [BOX]),  # a single point is no box
        ("The box is (10,20),(110,220).", [BOX]),
        ("[10.0, 20., 1.1e2, 2.2E+2]", [BOX]),
        ("[.5, -0.25, +3, -.5e1]", [(0.5, -0.25, 3.0, -5.0)]),
        ("(-10,-20),(110,220)", [(-10.0, -20.0, 110.0, 220.0)]),
        ("(110,220),(10,20)", [(110.0, 220.0, 10.0, 20.0)]),
        ("(5,5),(5,5)", [(5.0, 5.0, 5.0, 5.0)]),
        ("[-1e6, 0, 1e6, 1000000]", [(-1e6, 0.0, 1e6, 1e6)]),
        ("[0, 0, 1e-400, 1]", [(0.0, 0.0, 0.0, 1.0)]),
        ("[0, 0, 0." + "3" * 50_000 + ", 1]", [(0.0, 0.0, 1 / 3, 1.0)]),
        ("[10,20],[110,220]", [BOX]),
        ("[[10, 20], [110, 220]]", [BOX]),
        ("from (10, 20) to (110, 220)", [BOX]),
        ("10, 20, 110, 220", [BOX]),
        ("The box is 10, 20, 110, 220.", [BOX]),
        ("10 20 110 220", [BOX]),
        ("[10 20 110 220]", [BOX]),
        ("{10, 20, 110, 220}", [BOX]),
        ("<bbox>10,20,110,220</bbox>", [BOX]),
        ("<box>10 20 110 220</box>", [BOX]),
        ('{"xmin": 10, "ymin": 20, "xmax": 110, "ymax": 220}', [BOX]),
        ("{'y_max': 220, 'x_max': 110, 'y_min': 20, 'x_min': 10}", [BOX]),
        ('[{"x1":10,"y1":20,"x2":110,"y2":220},{"x1":1,"y1":2,"x2":3,"y2":4}]', [BOX, (1, 2, 3, 4)]),
        ("left=10, top=20, right=110, bottom=220", [BOX]),
        ("（10，20），（110，220）", [BOX]),
        ("【10，20，110，220】", [BOX]),
        ("(１０,２０),(１１０,２２０)", [BOX]),
        ("[10, 20, 110, 220, 0.98]", [BOX]),
        ("[[10, 20, 110, 220, 0.98], [1, 2, 3, 4, 1]]", [BOX, (1, 2, 3, 4)]),
        ("[1, 2, 3, 4]" * 1000, [(1, 2, 3, 4)] * 1000),
    ],
)
def test_boxes_are_read(text, boxes):
    assert read_boxes(text) == tuple(boxes)


@pytest.mark.parametrize("text", WITHOUT_BOX)
def test_texts_without_a_box_have_none(text):
    assert completion(text).boxes == ()


@pytest.mark.parametrize(
    "text",
    [
        "(" + "9" * 100_000,
        "[1,2,3," + "9" * 100_000,
        "[1." + "9" * 100_000,
        "(1e" + "9" * 100_000,
        "(" * 100_000,
        "(1," * 33_333,
        "(1,2)," * 16_666 + "(",
        "[1,2,3," * 14_285,
        "(1,2)" + " " * 100_000 + "x",
        "(" + " " * 100_000,
        "( " * 50_000,
        "[1 " + " " * 100_000 + ",",
        "(1.1" * 25_000,
        "-" * 100_000,
        "1 " * 50_000,
        "x" + " " * 100_000 + "x",
        "1,2,3," * 14_285,
        "xmin=1," * 14_285,
        "<bbox>1,2,3" * 9_000,
        "<answer>" * 12_500,
        "<answer>" + "</answer>" * 11_111,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_lengths_cost_no_time(text):
    with within_cpu_seconds(0.5):  # patterns that backtrack take minutes
        read_boxes(text)
        completion(text)
        completion(f"<answer>{text}</answer>")


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ([], ""),
        ([BOX], "(10,20),(110,220)"),
        ([(0.4, -0.6, 1.6, 999.6)], "(0,-1),(2,1000)"),
        ([BOX, (1, 2, 3, 4)], "(10,20),(110,220), (1,2),(3,4)"),
    ],
)
def test_boxes_are_written_in_the_form_that_prompts_ask_for(boxes, text):
    assert format_boxes(boxes) == text
    assert read_boxes(text) == tuple(tuple(map(round, box)) for box in boxes)


@pytest.mark.parametrize(
    ("source", "target", "box", "expected"),
    [
        ("grid", "image", (0, 0, 1000, 1000), (0, 0, 640, 480)),
        ("grid", "image", (100, 250, 500, 750), (64, 120, 320, 360)),
        ("image", "grid", (64, 120, 320, 360), (100, 250, 500, 750)),
        ("resized", "image", (0, 0, 812, 560), (0, 0, 640, 480)),
        ("resized", "image", (203, 140, 406, 420), (160, 120, 320, 360)),
        ("image", "resized", (160, 120, 320, 360), (203, 140, 406, 420)),
        ("grid", "resized", (500, 500, 1000, 1000), (406, 280, 812, 560)),
        ("resized", "grid", (406, 280, 812, 560), (500, 500, 1000, 1000)),
        ("grid", "image", (-100, 500, 2000, 100), (-64, 240, 1280, 48)),  # neither clipped nor sorted
        ("image", "image", (1 / 3, 2, 3, 4), (1 / 3, 2, 3, 4)),
    ],
)
def test_a_box_is_converted_between_spaces(source, target, box, expected):
    assert convert_box(box, source, target, VIEW) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("space", ["image", "resized", "grid"])
@pytest.mark.parametrize("stored", [(640, 480), (31, 2000), (4032, 3024)])
def test_a_box_comes_back_from_another_space(space, stored):
    view = View(stored, (812, 560))
    there = convert_box(BOX, "image", space, view)
    assert convert_box(there, space, "image", view) == pytest.approx(BOX, rel=1e-12)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ("image", "(160,120),(320,361), (0,0),(640,480)"),
        ("grid", "(250,250),(500,751), (0,0),(1000,1000)"),
        ("resized", "(203,140),(406,421), (0,0),(812,560)"),
    ],
)
def test_a_gold_answer_is_written_in_the_models_space_and_read_back(space, text):
    gold = [(160.0, 120.0, 320.0, 360.6), (0.0, 0.0, 640.0, 480.0)]
    assert answer_text(grounding(gold), space, VIEW) == text
    to_image = partial(convert_box, source=space, target="image", view=VIEW)
    boxes = completion(f"<answer>{text}</answer>", to_image).boxes
    half = 0.5 * VIEW.stored[0] / VIEW.scale(space)[0] + 1e-9  # whole numbers are half a unit off at most
    assert [boxes[0], boxes[1]] == [pytest.approx(box, abs=half) for box in gold]


@pytest.mark.parametrize(
    ("sample", "view", "text"),
    [
        (Sample("1", "t", "Which?", "[1, 2, 3, 4]", "label"), VIEW, "[1, 2, 3, 4]"),
        (Sample("1", "t", "Which?", "(A)", "choice", ("x",)), VIEW, "(A)"),
        (grounding([BOX]), None, "[[10.0, 20.0, 110.0, 220.0]]"),  # no image, so no other space
    ],
)
def test_other_gold_answers_stay_as_they_are(sample, view, text):
    assert answer_text(sample, "grid", view) == text


@pytest.mark.parametrize("gold", ["", "[]", "(A)", "[1, 2, 3]", "[1, 2, 3, NaN]", "[1, 2, 3, 2e6]"])
def test_a_gold_answer_without_boxes_is_no_lesson(gold):
    with pytest.raises(DataError, match=r"sample '1': no boxes in the gold answer .*JSON list of \[x1"):
        answer_text(grounding(gold), "grid", VIEW)
