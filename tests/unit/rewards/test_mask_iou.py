import json
import math

import numpy as np
import pytest
from matplotlib.path import Path
from PIL import Image

from gpg_vl.errors import DataError
from gpg_vl.rewards.mask_iou import _polygon_mask, mask_iou
from gpg_vl.types import Sample
from tests.support.grounding import EXTREME_BOXES, WITHOUT_BOX, answered, completion, grounding, predicting

IMAGE = Image.new("RGB", (10, 8))


def rectangle(x1, y1, x2, y2):
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def masked(**meta):
    """A sample of 10×8 pixels with this gold mask, as it comes back from a prepared data set."""
    return grounding("[2, 1, 8, 5]", (IMAGE,), **json.loads(json.dumps(meta)))


RECTANGLE = masked(polygons=[rectangle(2, 1, 8, 5)])  # 6·4 pixels


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(2,1),(8,5)", 1.0),
        ("[2, 1, 8, 5]", 1.0),
        ("<|box_start|>(2,1),(8,5)<|box_end|>", 1.0),
        ('{"bbox_2d": [2, 1, 8, 5], "label": "cat"}', 1.0),
        ("(2,1),(5,5)", 12 / 24),
        ("(2,1),(5,5), (5,1),(8,5)", 1.0),  # both halves
        ("(2,1),(6,5), (4,1),(8,5)", 1.0),  # the overlap counts once
        ("(2,1),(8,5), (2,1),(8,5)", 1.0),
        ("(2,1),(8,5), (0,7),(1,8)", 24 / 25),
        ("(2,1),(8,5), (3,3),(3,3)", 1.0),  # covers nothing
        ("(0,0),(10,8)", 24 / 80),
        ("(0,0),(10,8)" * 10, 24 / 80),
        ("(-100,-100),(100,100)", 24 / 80),  # as the whole image: a mask ends where the image does
        ("(-1000000,-1000000),(1000000,1000000)", 24 / 80),
        ("(4,2),(6,3)", 2 / 24),
        ("(5,3),(12,9)", 6 / (24 + 25 - 6)),
        ("(2.5,1.5),(8,5)", 1.0),  # an edge on a pixel's centre: left and top are inside,
        ("(2,1),(7.5,4.5)", 15 / 24),  # right and bottom are not
        ("(2.4,1.4),(7.6,4.6)", 1.0),
        ("(2.6,1.6),(7.4,4.4)", 8 / 24),
        ("(8,5),(10,8)", 0.0),
        ("(20,20),(30,30)", 0.0),
        ("(-5,-5),(-1,-1)", 0.0),
        ("(8,5),(2,1)", 0.0),  # corners in the wrong order
        ("(8,1),(2,5)", 0.0),
        ("(2,1),(2,5)", 0.0),
        ("(3.6,1),(4.4,5)", 0.0),  # between two columns of centres
        ("(2,1),(8,5)" * 1000, 1.0),
        ("(2,1),(8,5)" * 1001, 0.0),  # more than 1,000 are no prediction
    ],
)
def test_score(answer, expected):
    assert mask_iou(answered(answer), RECTANGLE) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("text", WITHOUT_BOX)
def test_without_a_box_the_score_is_zero(text):
    sample = grounding("", size=[640, 480], polygons=[rectangle(10, 20, 110, 220)])
    assert mask_iou(completion(text), sample) == 0.0


HOLE = [*rectangle(0, 0, 8, 8), [0, 0], *rectangle(2, 2, 6, 6), [2, 2]]  # a bridge of no width between both


@pytest.mark.parametrize(
    ("meta", "pixels", "box"),
    [
        ({"polygons": [[[0, 0], [8, 0], [0, 8]]]}, 28, (0, 0, 10, 8)),  # 7 + 6 + … + 1
        ({"polygons": [HOLE]}, 48, (0, 0, 10, 8)),
        ({"polygons": [HOLE, rectangle(2, 2, 6, 6)]}, 64, (0, 0, 10, 8)),
        ({"polygons": [rectangle(0, 0, 4, 4), rectangle(2, 2, 6, 6)]}, 28, (0, 0, 10, 8)),
        ({"polygons": [rectangle(-5, -5, 3, 3)]}, 9, (0, 0, 10, 8)),
        ({"polygons": [rectangle(7, 5, 99, 99)]}, 9, (0, 0, 10, 8)),
        ({"polygons": [[[2, 8], [2, 0], [5, 0], [5, 8]]]}, 24, (0, 0, 10, 8)),  # the other way round
        ({"masks": [{"size": [8, 10], "counts": [9, 3, 5, 3, 60]}]}, 6, (0, 0, 10, 8)),
        ({"masks": [{"size": [8, 10], "counts": [0, 80]}]}, 80, (0, 0, 10, 8)),
        ({"masks": [{"size": [8, 10], "counts": [0, 8, 72]}] * 2}, 8, (0, 0, 10, 8)),
        (
            {
                "masks": [{"size": [8, 10], "counts": [0, 8, 72]}],
                "polygons": [rectangle(0, 0, 10, 1)],
                "ignore_polygons": None,
            },
            17,
            (0, 0, 10, 8),
        ),
    ],
)
def test_gold_masks_cover_their_pixels(meta, pixels, box):
    assert mask_iou(predicting(box), masked(**meta)) == pytest.approx(pixels / 80, rel=1e-12)


def test_run_lengths_go_down_the_columns():
    sample = masked(masks=[{"size": [8, 10], "counts": [9, 3, 5, 3, 60]}])
    assert mask_iou(predicting((1, 1, 3, 4)), sample) == 1.0


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 1, 8, 5), 1.0),
        ((2, 1, 6, 5), 1.0),  # what is missing is ignored
        ((2, 1, 10, 5), 1.0),  # and so is what is too much
        ((0, 1, 6, 5), 16 / 24),
        ((6, 0, 10, 8), 0.0),  # nothing but ignored pixels
    ],
)
def test_ignored_pixels_count_in_neither_mask(box, expected):
    sample = masked(polygons=[rectangle(2, 1, 8, 5)], ignore_polygons=[rectangle(6, 0, 10, 8)])
    assert mask_iou(predicting(box), sample) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"polygons": [], "masks": []},
        {"polygons": None, "masks": None},
        {"polygons": [[]]},
        {"polygons": [[[1, 1], [5, 5]]]},  # a line
        {"polygons": [rectangle(20, 20, 30, 30)]},
        {"polygons": [rectangle(0, 0, 8, 8) * 2]},  # twice round is outside, by the even-odd rule
        {"polygons": [rectangle(2, 1, 8, 5)], "ignore_polygons": [rectangle(0, 0, 10, 8)]},
        {"masks": [{"size": [8, 10], "counts": [80]}]},
        {"masks": [{"size": [8, 10], "counts": []}]},
        {"masks": [{"size": [8, 10], "counts": [0, 79]}]},
        {"masks": [{"size": [8, 10], "counts": [0, 81]}]},
        {"masks": [{"size": [8, 10], "counts": [-8, 88]}]},
        {"masks": [{"size": [10, 8], "counts": [0, 80]}]},
    ],
)
def test_a_sample_without_a_gold_mask_cannot_be_graded(meta):
    assert mask_iou(predicting((2, 1, 8, 5)), masked(**meta)) is None
    assert mask_iou(completion("no tags"), masked(**meta)) is None


def test_an_image_of_unknown_size_cannot_be_graded():
    polygons = [rectangle(2, 1, 8, 5)]
    assert mask_iou(predicting((2, 1, 8, 5)), grounding("", polygons=polygons)) is None
    assert mask_iou(predicting((2, 1, 8, 5)), grounding("", polygons=polygons, size=[10, 8])) == 1.0


def test_the_size_of_meta_goes_before_that_of_the_image():
    sample = grounding("", (IMAGE,), polygons=[rectangle(0, 0, 20, 16)], size=[20, 16])
    assert mask_iou(predicting((0, 0, 10, 8)), sample) == pytest.approx(1 / 4, rel=1e-12)


def test_another_kind_of_sample_cannot_be_graded():
    sample = Sample("1", "t", "Which?", "(A)", "choice", ("x",), (IMAGE,), RECTANGLE.meta)
    assert mask_iou(predicting((2, 1, 8, 5)), sample) is None


def test_compressed_run_lengths_are_refused():
    with pytest.raises(DataError, match="compressed run lengths; write counts as a list"):
        mask_iou(predicting((2, 1, 8, 5)), masked(masks=[{"size": [8, 10], "counts": "PPYo0"}]))


def test_extreme_boxes_stay_in_range():
    scores = [mask_iou(predicting(box), RECTANGLE) for box in EXTREME_BOXES]
    assert (min(scores), max(scores)) == (0.0, 24 / 80)


def test_polygons_are_filled_as_another_library_fills_them():
    """Matplotlib's test of a point in a path, at each pixel's centre."""
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), axis=-1).reshape(-1, 2)
    for corners in (3, 4, 5, 9, 50):
        polygon = rng.uniform(-10, 50, (corners, 2))  # crosses itself and the border of the image
        inside = Path(polygon).contains_points(centres).reshape(30, 40)
        assert np.array_equal(_polygon_mask(polygon, 40, 30), inside)
        assert 0 < inside.sum() < inside.size


def test_a_disc_covers_its_area():
    angles = np.linspace(0, 2 * math.pi, 360, endpoint=False)
    disc = np.stack([500 + 300 * np.cos(angles), 400 + 300 * np.sin(angles)], axis=1)
    sample = grounding("", polygons=[disc.tolist()], size=[1000, 800])
    assert mask_iou(predicting((200, 100, 800, 700)), sample) == pytest.approx(math.pi / 4, rel=1e-3)
