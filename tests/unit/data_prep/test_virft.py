import io
import json

import pytest
from PIL import Image
from PIL.ExifTags import Base

from gpg_vl.data_prep.virft import virft
from gpg_vl.errors import DataError
from gpg_vl.registry import converters
from tests.support.published import cell, prepared, reasons, write_parquet

TAGS = (
    "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags."
    "The output answer format should be as follows:\n<think> ... </think> <answer>{form}</answer>\n"
    "Please strictly follow the format."
)
PLANT = "This is an image containing a plant. Please identify the species of the plant based on the image."
FLOWER = {
    "image": cell(),
    "problem": f" {PLANT}\n{TAGS.format(form='species name')}",
    "solution": "<answer>fire lily</answer>",
}
BUS = {
    "image": cell(width=640, height=425),
    "problem": (
        "Detect all objects belonging to the category 'fire hydrant' in the image, and provide the bounding "
        "boxes (between 0 and 1000, integer) and confidence (between 0 and 1, with two decimal places).\n"
        "If no object belonging to the category 'fire hydrant' in the image, return 'No Objects'.\n"
        + TAGS.format(form="[{'Position': [x1, y1, x2, y2], 'Confidence': number}, ...]")
    ),
    "solution": (
        "<answer>[{'Position': [302, 0, 690, 800], 'Confidence': 1}, "
        "{'Position': [0, 500, 1000, 1000], 'Confidence': 1}]</answer>"
    ),
}


def hub(folder, rows):
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows)
    return str(folder)


def test_classification(tmp_path):
    [sample] = prepared(virft(hub(tmp_path / "hub", [FLOWER])), tmp_path / "out")
    assert (sample.id, sample.task, sample.question) == ("virft-train-0", "virft/classification", PLANT)
    assert (sample.answer, sample.answer_type, sample.choices) == ("fire lily", "label", ())
    assert sample.images[0].size == (8, 6)


def test_detection_boxes_go_from_the_grid_to_pixels(tmp_path):
    other = BUS | {"problem": BUS["problem"].replace("fire hydrant", "dog")}
    first, second = prepared(virft(hub(tmp_path / "hub", [BUS, other])), tmp_path / "out")
    assert (first.task, first.answer_type) == ("virft/detection", "boxes")
    assert first.question == "Detect all objects belonging to the category 'fire hydrant' in the image."
    # Thousandths of 640 and 425 pixels: as pixels, the published row would leave its image.
    assert json.loads(first.answer) == [[193.28, 0.0, 441.6, 340.0], [0.0, 212.5, 640.0, 425.0]]
    assert (first.meta["category"], second.meta["category"]) == ("fire hydrant", "dog")
    assert first.meta["cluster"] == second.meta["cluster"], "two categories of one image"


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("<answer>No Objects</answer>", "no objects"),
        ("<answer>[]</answer>", "no objects"),
        ("<answer>[{'Position': [1, 2, 3], 'Confidence': 1}]</answer>", "malformed box"),
        ("<answer>[{'Position': [1, 2, 3, 'x'], 'Confidence': 1}]</answer>", "malformed box"),
        ("<answer>[{'Position': [1, 2, 3, 4]}, {'Position': [1, 2, 3]}]</answer>", "malformed box"),
        ("<answer>[{'Position': [1, 2, 3, nan], 'Confidence': 1}]</answer>", "malformed box"),
        ("", "empty solution"),
    ],
)
def test_solutions_without_whole_boxes_are_skipped(tmp_path, solution, reason):
    source = hub(tmp_path / "hub", [BUS, BUS | {"solution": solution}])
    assert reasons(virft(source)) == [None, reason]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"problem": None}, "empty problem"),
        ({"problem": f"{PLANT} Answer in <answer></answer>."}, "instructions in the question"),
        ({"image": {"bytes": b"", "path": "image.png"}}, "missing image"),
    ],
)
def test_bad_rows_say_why(tmp_path, broken, reason):
    assert reasons(virft(hub(tmp_path / "hub", [FLOWER, FLOWER | broken]))) == [None, reason]


def test_without_a_network_the_local_layout_is_named():
    with pytest.raises(DataError, match=r"hub cannot be reached.*Parquet with image, problem, solution"):
        list(virft("laolao77/ViRFT_COCO_base65"))


def test_the_converter_is_registered():
    assert converters.get("virft").function is virft


def test_boxes_are_of_the_image_as_it_is_shown(tmp_path):
    turned = Image.Exif()
    turned[Base.Orientation] = 6  # 640 × 425 in the file, 425 × 640 as shown
    file = io.BytesIO()
    Image.new("RGB", (640, 425), "red").save(file, "JPEG", exif=turned)
    row = BUS | {"image": {"bytes": file.getvalue(), "path": None}}
    [sample] = prepared(virft(hub(tmp_path / "hub", [row])), tmp_path / "out")
    assert sample.images[0].size == (425, 640)
    assert json.loads(sample.answer) == [[128.35, 0.0, 293.25, 512.0], [0.0, 320.0, 425.0, 640.0]]


def test_boxes_under_an_unknown_wording_are_no_class(tmp_path):
    other = BUS | {"problem": "Find every fire hydrant."}
    assert reasons(virft(hub(tmp_path / "hub", [BUS, other]))) == [None, "unknown wording"]
