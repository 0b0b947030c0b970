from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpg_vl.data_prep.sat import sat
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from tests.support.published import cell, png, prepared, reasons, sample_of, write_parquet

OBJECTS = {
    "question": "Is the red chair left of the lamp?",
    "answers": ["yes", "no"],
    "question_type": "other",
    "correct_answer": "yes",
}
CAMERA = {
    "question": "How did the camera rotate from the first image to the second?",
    "answers": ["rotated left", "rotated right", "did not move"],
    "question_type": "ego_movement",
    "correct_answer": "rotated left",
}
BEFORE, AFTER = {"colour": (10, 0, 0)}, {"colour": (20, 0, 0)}


def first_layout(folder, **splits):
    """array/SAT: one file a split beside a card that names them, images as plain bytes."""
    folder.mkdir()
    files = ""
    for split, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"SAT_{split}.parquet")
        files += f"  - {{split: {split}, path: SAT_{split}.parquet}}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    return str(folder)


@pytest.fixture(params=["array/SAT", "array/SAT-v2"])
def folder(request, tmp_path):
    """One row about one image and one about two, in either layout."""
    looks = [[BEFORE], [BEFORE, AFTER]]
    rows = [OBJECTS, CAMERA]
    if request.param == "array/SAT":
        rows = [
            row | {"image_bytes": [png(**look) for look in pair]}
            for row, pair in zip(rows, looks, strict=True)
        ]
        return first_layout(tmp_path / "hub", train=rows, val=rows[:1])
    rows = [row | {"images": [cell(**look) for look in pair]} for row, pair in zip(rows, looks, strict=True)]
    write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", rows)
    write_parquet(tmp_path / "hub" / "data" / "val-00000-of-00001.parquet", rows[:1])
    return str(tmp_path / "hub")


def test_both_layouts_give_the_same_rows(folder, tmp_path):
    one, two = prepared(sat(folder), tmp_path / "out")
    assert (one.id, two.id) == ("sat-train-0", "sat-train-1")
    assert (one.task, two.task) == ("sat/other", "sat/ego_movement")
    assert one.question == OBJECTS["question"] and one.answer_type == "choice"
    assert sorted(two.choices) == sorted(CAMERA["answers"])
    assert two.choices["ABC".index(two.answer[1])] == "rotated left"
    assert [image.getpixel((0, 0)) for image in one.images] == [(10, 0, 0)]
    assert [image.getpixel((0, 0)) for image in two.images] == [(10, 0, 0), (20, 0, 0)]
    assert one.meta["cluster"] == two.meta["cluster"], "both are about one scene"


def test_only_the_asked_split_is_read(folder, tmp_path):
    assert [sample.id for sample in prepared(sat(folder, split="val"), tmp_path / "out")] == ["sat-val-0"]
    with pytest.raises(DataError, match="has no split test; it has: train, val"):
        list(sat(folder, split="test"))


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"images": 1}, ["sat-train-0"]),
        ({"images": 2}, ["sat-train-1"]),
        ({"images": 0}, ["sat-train-0", "sat-train-1"]),
        ({"question_type": "ego_movement"}, ["sat-train-1"]),
        ({"images": 2, "question_type": "ego_movement"}, ["sat-train-1"]),
    ],
)
def test_filters(folder, tmp_path, options, ids):
    assert [sample.id for sample in prepared(sat(folder, **options), tmp_path / "out")] == ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 3}, "images of sat is 1, 2, or 0 for all; got 3"),
        (
            {"question_type": "ego_motion"},
            "unknown question type of SAT 'ego_motion'; known: ego_movement, other",
        ),
    ],
)
def test_a_wrong_option_names_the_right_ones(folder, options, message):
    with pytest.raises((ConfigurationError, DataError), match=message):
        list(sat(folder, **options))


def test_the_order_of_choices_is_balanced_and_depends_on_row_and_seed_only(tmp_path):
    rows = [CAMERA | {"image_bytes": [png()]} for _ in range(300)]
    source = first_layout(tmp_path / "hub", train=rows)
    first = [sample_of(draft) for draft in sat(source)]
    again = [sample_of(draft) for draft in sat(source, images=1)]
    other = [sample_of(draft) for draft in sat(source, seed=1)]
    assert [sample.choices for sample in first] == [sample.choices for sample in again]
    assert [sample.choices for sample in first] != [sample.choices for sample in other]
    golds = Counter(sample.answer for sample in first)
    # The right answer is published first. 100 each are expected; 3.5 standard deviations are 29.
    assert [golds[gold] for gold in ("(A)", "(B)", "(C)")] == pytest.approx([100, 100, 100], abs=29)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"correct_answer": "up"}, "answer not among the choices"),
        ({"correct_answer": None}, "empty correct_answer"),
        ({"answers": ["yes", "yes"]}, "repeated choice"),
        ({"answers": None}, "empty answers"),
        ({"question_type": None}, "empty question_type"),
        ({"image_bytes": []}, "missing image"),
        ({"image_bytes": None}, "missing image"),
        ({"image_bytes": [b"no image"]}, "unreadable image"),
    ],
)
def test_bad_rows_say_why(tmp_path, broken, reason):
    good = OBJECTS | {"image_bytes": [png()]}
    folder = first_layout(tmp_path / "hub", train=[good, good | broken, good])
    assert reasons(sat(folder, images=1)) == [None, reason, None]


def test_without_a_network_the_local_layout_is_named():
    with pytest.raises(DataError, match=r"hub cannot be reached.*SAT_train\.parquet: image_bytes"):
        list(sat("array/SAT-v2"))


def test_the_converter_is_registered():
    assert converters.get("sat").function is sat
