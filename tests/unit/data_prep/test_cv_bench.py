import pytest
from datasets import List, Value

from gpg_vl.data_prep.cv_bench import cv_bench
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.prompting.prompts import question_text
from gpg_vl.registry import converters
from tests.support.published import cell, prepared, reasons, write_parquet

COUNT = {
    "idx": 0,
    "type": "2D",
    "task": "Count",
    "image": cell(),
    "question": "How many organs are in the image?",
    "choices": ["3", "2", "1", "0"],
    "answer": "(C)",
    "prompt": "How many organs are in the image? Select from the following choices.\n"
    "(A) 3\n(B) 2\n(C) 1\n(D) 0",
    "filename": "img/2D/count/ade20k_10.png",
    "source": "ADE20K",
    "source_dataset": "ADE20K Validation Set",
    "source_filename": "ADE_val_00000248.jpg",
    "target_class": None,
    "target_size": None,
    "bbox": None,
}
RELATION = COUNT | {
    "idx": 1,
    "task": "Relation",
    "question": "Where is the organ?",
    "choices": ["left", "right"],
    "answer": "(A)",
    "filename": "img/2D/relation/ade20k_3.png",
}
DEPTH = COUNT | {
    "idx": 1438,
    "type": "3D",
    "task": "Depth",
    "question": "Which object is closer to the camera?",
    "choices": ["table (highlighted by a red box)", "lamp (highlighted by a blue box)"],
    "answer": "(B)",
    "filename": "img/3D/depth/omni3d_hypersim_5.png",
    "source": "Omni3D",
    "source_dataset": "Hypersim",
    "source_filename": None,
    "bbox": [[1.5, 2.0, 5.0, 6.0], [0.0, 0.0, 2.0, 2.0]],
}
TYPES = {
    "source_filename": Value("string"),
    "target_class": Value("string"),
    "target_size": Value("int64"),
    "bbox": List(List(Value("float64"))),
}


@pytest.fixture
def folder(tmp_path):
    write_parquet(tmp_path / "hub" / "test_2d.parquet", [COUNT, RELATION], **TYPES)
    write_parquet(tmp_path / "hub" / "test_3d.parquet", [DEPTH | {"idx": 1437}, DEPTH], **TYPES)
    card = "configs:\n- config_name: default\n  data_files:\n  - {split: test, path: 'test*.parquet'}\n"
    card += "- config_name: 2D\n  data_files:\n  - {split: test, path: test_2d.parquet}\n"
    (tmp_path / "hub" / "README.md").write_text(f"---\n{card}---\n")
    return tmp_path / "hub"


def test_rows_keep_their_choices_and_the_published_prompt(folder, tmp_path):
    first, *_, last = prepared(cv_bench(str(folder)), tmp_path / "out")
    assert (first.id, first.task, first.answer, first.answer_type) == (
        "cv_bench-0",
        "cv_bench/Count",
        "(C)",
        "choice",
    )
    assert first.choices == ("3", "2", "1", "0")
    assert question_text(first) == COUNT["prompt"]
    assert first.images[0].size == (8, 6)
    assert first.meta == {
        "cluster": "ADE20K Validation Set: ADE_val_00000248.jpg",
        "filename": "img/2D/count/ade20k_10.png",
        "source": "ADE20K",
        "source_dataset": "ADE20K Validation Set",
        "type": "2D",
    }
    assert last.task == "cv_bench/Depth"
    assert last.meta["bbox"] == [[1.5, 2.0, 5.0, 6.0], [0.0, 0.0, 2.0, 2.0]]
    assert last.meta["cluster"] == "Hypersim: img/3D/depth/omni3d_hypersim_5.png"


def test_questions_about_one_source_image_form_a_cluster(folder, tmp_path):
    count, relation, *_ = prepared(cv_bench(str(folder)), tmp_path / "out")
    assert count.meta["filename"] != relation.meta["filename"]
    assert count.meta["cluster"] == relation.meta["cluster"]


@pytest.mark.parametrize(
    ("split", "tasks"),
    [
        ("test", ["Count", "Relation", "Depth", "Depth"]),
        ("test_2d", ["Count", "Relation"]),
        ("test_3d", ["Depth", "Depth"]),
    ],
)
def test_splits(folder, tmp_path, split, tasks):
    samples = prepared(cv_bench(str(folder), split=split), tmp_path / "out")
    assert [sample.task for sample in samples] == [f"cv_bench/{task}" for task in tasks]


def test_one_file_will_do(folder, tmp_path):
    samples = prepared(cv_bench(str(folder / "test_3d.parquet")), tmp_path / "out")
    assert [sample.id for sample in samples] == ["cv_bench-1437", "cv_bench-1438"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"question": None}, "empty question"),
        ({"question": "  "}, "empty question"),
        ({"choices": []}, "empty choices"),
        ({"choices": None}, "empty choices"),
        ({"answer": None}, "empty answer"),
        ({"task": None}, "empty task"),
        ({"image": None}, "missing image"),
        ({"image": {"bytes": b"no image", "path": None}}, "unreadable image"),
    ],
)
def test_bad_rows_say_why(tmp_path, broken, reason):
    file = write_parquet(tmp_path / "test_2d.parquet", [COUNT, COUNT | broken, RELATION])
    assert reasons(cv_bench(str(file))) == [None, reason, None]


def test_another_data_set_is_refused(tmp_path):
    file = write_parquet(tmp_path / "test.parquet", [{"image": cell(), "problem": "How many?"}])
    message = r"has no column 'idx'; it has: image, problem\. This converter reads a folder with test_2d"
    with pytest.raises(DataError, match=message):
        list(cv_bench(str(file)))


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(
        ConfigurationError, match="unknown split of cv_bench 'val'; known: test, test_2d, test_3d"
    ):
        list(cv_bench("somewhere", split="val"))


def test_without_a_network_the_local_layout_is_named():
    with pytest.raises(DataError, match=r"hub cannot be reached.*a folder with test_2d\.parquet and test_3d"):
        list(cv_bench("nyu-visionx/CV-Bench"))


def test_the_converter_is_registered():
    assert converters.get("cv_bench").function is cv_bench
