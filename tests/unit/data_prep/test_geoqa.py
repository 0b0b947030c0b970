import json

import pytest

from gpg_vl.data_prep.geoqa import geoqa
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from tests.support.published import cell, png, prepared, reasons, sample_of, write_parquet

PROBLEM = "As shown in the figure, AB parallel CD, angle 1 = 35.0, then angle 2 is equal to ()"
TRAIN = {"image": cell(), "problem": PROBLEM, "solution": "<answer> 145° </answer>"}
TEST = {"image_path": "./Geo170K/images/test/0.png", "question": PROBLEM, "ground_truth": "140°"}


def write_test(folder, rows):
    """R1-V's file of questions, and the images of Geo170K beside it."""
    images = folder / "Geo170K" / "images" / "test"
    images.mkdir(parents=True)
    (images / "0.png").write_bytes(png())
    file = folder / "geoqa_test_prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_training_rows(tmp_path):
    rows = [
        TRAIN,
        TRAIN | {"solution": "<answer> 2√{3} </answer>"},
        TRAIN | {"image": cell(colour=(0, 0, 9))},
    ]
    write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", rows)
    first, second, third = prepared(geoqa(str(tmp_path / "hub")), tmp_path / "out")
    assert (first.id, first.task, first.question) == ("geoqa-train-0", "geoqa", PROBLEM)
    assert (first.answer, first.answer_type) == ("145°", "number")
    assert (second.answer, second.answer_type) == (r"2\sqrt{3}", "math")
    assert second.meta["published_answer"] == "2√{3}"
    assert first.images[0].size == (8, 6)
    assert first.meta["cluster"] == second.meta["cluster"] != third.meta["cluster"]


@pytest.mark.parametrize("whole_folder", [True, False])
def test_test_rows(tmp_path, whole_folder):
    file = write_test(tmp_path / "r1v", [TEST, TEST | {"ground_truth": "3cm"}])
    first, second = prepared(geoqa(str(file.parent if whole_folder else file)), tmp_path / "out")
    assert (first.id, first.task, first.question, first.answer) == ("geoqa-test-1", "geoqa", PROBLEM, "140°")
    assert (second.answer, second.answer_type) == ("3", "number")
    assert first.images[0].size == (8, 6)
    assert first.meta == {"cluster": "./Geo170K/images/test/0.png", "published_answer": "140°"}


def test_the_image_folder_may_lie_elsewhere(tmp_path):
    file = write_test(tmp_path / "r1v", [TEST])
    (tmp_path / "r1v" / "Geo170K").rename(tmp_path / "Geo170K")
    assert reasons(geoqa(str(file))) == ["missing image"]
    assert len(prepared(geoqa(str(file), images=str(tmp_path)), tmp_path / "out")) == 1
    with pytest.raises(ConfigurationError, match="--images must be the folder that image_path starts from"):
        list(geoqa(str(file), images=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("published", "answer", "kind"),
    [
        ("140°", "140°", "number"),
        ("17.5°", "17.5°", "number"),
        ("60 degrees", "60 degrees", "number"),
        ("-3", "-3", "number"),
        ("9米", "9", "number"),
        ("1.2m", "1.2", "number"),
        ("400cm²", "400", "number"),
        ("5cm^2^", "5", "number"),
        (r"\frac{9}{2}", r"\frac{9}{2}", "number"),
        (r"\frac{1}{2}cm²", r"\frac{1}{2}", "number"),
        (r"\frac{20}{7}cm", r"\frac{20}{7}", "number"),
        ("5√{3}", r"5\sqrt{3}", "math"),
        ("√3", r"\sqrt{3}", "math"),
        ("√(13)", r"\sqrt{13}", "math"),
        ("6√{3}海里", r"6\sqrt{3}", "math"),
        ("2√{2}-2", r"2\sqrt{2}-2", "math"),
        ("(√{3}+1)小时", r"(\sqrt{3}+1)", "math"),
        (r"\frac{3√{5}}{2}", r"\frac{3\sqrt{5}}{2}", "math"),
        (r"\frac{10√{3}}{3}m", r"\frac{10\sqrt{3}}{3}", "math"),
        ("4√{3}cm²", r"4\sqrt{3}", "math"),
        ("9πcm^{2}", r"9\pi", "math"),
        ("16π平方米", r"16\pi", "math"),
        (r"\frac{1}{6}π", r"\frac{1}{6}\pi", "math"),
        ("90°-α", r"90^\circ -α", "math"),
        ("√", None, "unreadable answer"),
        ("√{√{2}}", None, "unreadable answer"),
    ],
)
def test_answers_lose_their_unit_and_expressions_become_latex(tmp_path, published, answer, kind):
    [draft] = geoqa(str(write_test(tmp_path, [TEST | {"ground_truth": published}])))
    if answer is None:
        assert reasons([draft]) == [kind]
    else:
        sample = sample_of(draft)
        assert (sample.answer, sample.answer_type) == (answer, kind)


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        (f"{PROBLEM} Output the thinking process in <think> </think> and final answer (number) in "
         "<answer> </answer> tags.", PROBLEM),
        (f" {PROBLEM}\n", PROBLEM),
        ("Find the output of the thinking process.", "Find the output of the thinking process."),
        (f"{PROBLEM} Answer in <answer> tags.", None),
        ("Output the thinking process in <think> </think>.", None),
    ],
)  # fmt: skip
def test_only_instructions_about_tags_are_cut(tmp_path, problem, question):
    [draft] = geoqa(str(write_parquet(tmp_path / "train.parquet", [TRAIN | {"problem": problem}])))
    if question is None:
        assert reasons([draft]) in (["instructions in the question"], ["empty problem"])
    else:
        assert sample_of(draft).question == question


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"image_path": "./Geo170K/images/test/1.png"}, "missing image"),
        ({"image_path": "../../etc/0.png"}, "path outside the folder"),
        ({"image_path": None}, "empty image_path"),
        ({"ground_truth": " "}, "empty ground_truth"),
        ({"question": ""}, "empty question"),
    ],
)
def test_bad_test_rows_say_why(tmp_path, broken, reason):
    file = write_test(tmp_path / "r1v", [TEST, TEST | broken, TEST])
    assert reasons(geoqa(str(file))) == [None, reason, None]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"solution": None}, "empty solution"),
        ({"problem": None}, "empty problem"),
        ({"image": None}, "missing image"),
    ],
)
def test_bad_training_rows_say_why(tmp_path, broken, reason):
    file = write_parquet(tmp_path / "train.parquet", [TRAIN, TRAIN | broken])
    assert reasons(geoqa(str(file))) == [None, reason]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "leonardPKU/GEOQA_R1V_Train_8K",
            r"hub cannot be reached.*geoqa_test_prompts\.jsonl with image_path",
        ),
        ("nowhere.jsonl", r"no file 'nowhere\.jsonl'; --source is a hub id, or a folder or file of Parquet"),
        ("", "this converter needs --source"),
    ],
)
def test_what_cannot_be_read_says_what_can(source, message):
    with pytest.raises((ConfigurationError, DataError), match=message):
        list(geoqa(source))


def test_the_converter_is_registered():
    assert converters.get("geoqa").function is geoqa
