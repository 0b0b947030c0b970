import json

import pytest
from datasets import Dataset

from gpg_vl.data_prep.math_sets import math_sets
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from tests.support.drafts import refused, written

# One or two rows of every layout, columns as published.
MATH = [
    {
        "problem": "What is $\\sqrt{4}/3$?",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "It is $\\boxed{1}$ at first, then $\\boxed{\\frac{2}{3}}$.",
    },
    {"problem": "And $2+2$?", "level": "Level ?", "type": "Algebra", "solution": "So $\\boxed 4$."},
]
SIMPLELR = {
    "input": "<|im_start|>user\nWhat is it?<|im_end|>",
    "answer": "7",
    "gt_answer": "7",
    "subject": "Algebra",
    "level": 4,
    "question": "What is it?",
    "ground_truth_answer": "7",
    "target": "7",
}
OPEN_RS = {"problem": "Find $x$.", "solution": "#### 1\nThus 3.", "answer": "$\\sqrt{3}$", "level": "Hard"}
MATH500 = {
    "problem": "Convert.",
    "solution": "$\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}$",
    "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
    "subject": "Precalculus",
    "level": 2,
    "unique_id": "test/precalculus/807.json",
}
AIME = {
    "id": 60,
    "problem": " Aya walks. ",
    "solution": "$\\boxed{204}$",
    "answer": "033",
    "url": "https://aops",
    "year": "2024",
}
AMC = {"id": 0, "answer": 142.0, "problem": "What is $m+n$?", "url": "https://aops"}
GSM8K = {"question": "How many clips?", "answer": "She sold 48/2=<<48/2=24>>24.\n#### 1,024"}
MINERVA = {"question": "Which wavelength?", "answer": "9.6"}
OLYMPIAD = {
    "id": 1606,
    "question": "Find $n$.",
    "solution": ["Let it be."],
    "final_answer": ["$2 n$"],
    "context": None,
    "image_1": None,
    "is_multiple_answer": False,
    "unit": "cm",
    "answer_type": "Expression",
    "error": None,
    "question_type": "Open-ended",
    "subfield": "Algebra",
}


def jsonl(tmp_path, *rows, name="set"):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(
    ("row", "question", "answer", "meta"),
    [
        (
            MATH[0],
            "What is $\\sqrt{4}/3$?",
            "\\frac{2}{3}",
            {key: MATH[0][key] for key in ("level", "type")},
        ),
        (MATH[1], "And $2+2$?", "4", {key: MATH[1][key] for key in ("level", "type")}),
        (
            SIMPLELR,
            "What is it?",
            "7",
            {key: SIMPLELR[key] for key in ("input", "subject", "level", "target")},
        ),
        (OPEN_RS, "Find $x$.", "\\sqrt{3}", {"level": "Hard"}),
        (
            MATH500,
            "Convert.",
            "\\left( 3, \\frac{\\pi}{2} \\right)",
            {key: MATH500[key] for key in ("subject", "level", "unique_id")},
        ),
        (AIME, "Aya walks.", "33", {key: AIME[key] for key in ("id", "url", "year")}),
        (AMC, "What is $m+n$?", "142", {"id": 0, "url": "https://aops"}),
        (GSM8K, "How many clips?", "1024", {}),
        (MINERVA, "Which wavelength?", "9.6", {}),
        (
            OLYMPIAD,
            "Find $n$.",
            "2 n",
            {
                "id": 1606,
                "is_multiple_answer": False,
                "unit": "cm",
                "answer_type": "Expression",
                "question_type": "Open-ended",
                "subfield": "Algebra",
            },
        ),
    ],
    ids=["worked", "bare", "simplelr", "open_rs", "math500", "aime", "amc", "gsm8k", "minerva", "olympiad"],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_published_layout(tmp_path, suffix, row, question, answer, meta):
    if suffix == "jsonl":
        source = jsonl(tmp_path, row)
    else:
        source = str(tmp_path / "set.parquet")
        Dataset.from_list([row]).to_parquet(source)
    (sample,) = written(math_sets(source), tmp_path / "out")
    assert (sample.id, sample.task, sample.answer_type) == ("set-1", "math/set", "math")
    assert (sample.question, sample.answer, sample.meta) == (question, answer, meta)
    assert (sample.choices, sample.images) == ((), ())


@pytest.mark.parametrize(
    ("row", "answer", "alternatives"),
    [
        ({"answer": ["0.01\n", "0.02\n"]}, "0.01", ["0.02"]),
        ({"answer": ["4", "4\n"]}, "4", None),
        ({"final_answer": ["$1$", "$x=2$"], "is_multiple_answer": True}, "1, x=2", None),
        ({"final_answer": ["$69$,$84$"], "is_multiple_answer": True}, "$69$,$84$", None),
        ({"answer": "\\$18.90"}, "\\$18.90", None),
        ({"answer": "", "solution": "\\boxed{\\{1,2\\}}"}, "\\{1,2\\}", None),
        ({"answer": None, "solution": "\\boxed{5}"}, "5", None),
        ({"answer": None, "solution": "\\boxed{1}, so \\boxed{\\boxed{2}}"}, "2", None),
        ({"answer": 0.5}, "0.5", None),
        ({"answer": 0}, "0", None),
    ],
)
def test_answers_with_several_forms(tmp_path, row, answer, alternatives):
    (draft,) = math_sets(jsonl(tmp_path, {"problem": "?"} | row))
    sample = draft()
    assert sample.answer == answer
    assert sample.meta.get("alternatives") == alternatives


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        (MATH[0], "It is $1$ at first, then $\\frac{2}{3}$."),
        (MATH[1], "So $4$."),
        (OPEN_RS, "#### 1\nThus 3."),
        (MATH500, ""),
        (GSM8K, "She sold 48/2=24."),
        (OLYMPIAD, "Let it be."),
        (AMC, ""),
        (SIMPLELR, ""),
        ({"problem": "?", "answer": "$5$"}, ""),
        ({"problem": "?", "answer": r"\boxed{5}"}, ""),
        ({"problem": "?", "answer": r"Two and three.\\\boxed{\boxed{5}}"}, r"Two and three.\\5"),
        ({"problem": "?", "answer": ["5", "5.0"], "solution": []}, ""),
        ({"problem": "?", "answer": "5", "solution": "<think>Two and three.</think>"}, "Two and three."),
    ],
)
def test_a_worked_solution_is_the_reasoning(tmp_path, row, steps):
    (sample,) = written(math_sets(jsonl(tmp_path, row)), tmp_path / "out")
    assert sample.reasoning == steps
    assert "solution" not in sample.meta


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "?", "solution": "So 5."}, r"no final answer: set-1: neither \boxed{} nor ####"),
        ({"problem": "?", "solution": r"\boxed{5"}, "no final answer: "),
        ({"problem": "?", "answer": None}, "no answer: "),
        ({"problem": "?", "final_answer": []}, "no answer: "),
        ({"problem": " ", "answer": "5"}, "no question: "),
        ({"problem": None, "answer": "5"}, "no question: "),
        ({"question": "In <image_1>?", "answer": "5", "image_1": {"bytes": "x"}}, "needs an image: "),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path, row, reason):
    (draft,) = math_sets(jsonl(tmp_path, row))
    assert refused(draft).startswith(reason)


def test_a_question_stands_after_what_it_refers_to(tmp_path):
    (draft,) = math_sets(jsonl(tmp_path, OLYMPIAD | {"context": "Let $n$ be even. "}))
    assert draft().question == "Let $n$ be even.\nFind $n$."


@pytest.mark.parametrize(
    ("levels", "ids"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("3-5", [2, 3, 4]),
        ("3,5", [2, 4]),
        (" 2 - 3, 5", [1, 2, 4]),
        ("hard", [6]),
        ("1", []),
    ],
)
def test_levels_are_chosen_and_ids_do_not_move(tmp_path, levels, ids):
    given = ["Level 2", "Level 3", 4, 5.0, "Level ?", "Hard"]
    source = jsonl(tmp_path, *({"problem": "?", "answer": "1", "level": level} for level in given))
    assert [draft().id for draft in math_sets(source, levels=levels)] == [f"set-{number}" for number in ids]


@pytest.mark.parametrize("levels", ["3-", "5-3", ",", "3,,4", " "])
def test_levels_have_a_form(tmp_path, levels):
    with pytest.raises(ConfigurationError, match="--levels must be such as 3-5, 3,4,5 or Hard, got"):
        next(math_sets(jsonl(tmp_path, MATH[0]), levels=levels))


def test_levels_need_a_column(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"--levels needs a column level or difficulty, and .*has only"
    ):
        next(math_sets(jsonl(tmp_path, GSM8K), levels="3-5"))


def test_a_file_of_another_kind_is_explained(tmp_path):
    with pytest.raises(DataError, match="none of the columns problem, question; it has: text, answer"):
        next(math_sets(jsonl(tmp_path, {"text": "?", "answer": "5"})))
    with pytest.raises(DataError, match=r"none of the columns final_answer, .*; it has: problem, label"):
        next(math_sets(jsonl(tmp_path, {"problem": "?", "label": "5"})))


def test_a_folder_gives_the_split_that_is_asked_for(tmp_path):
    folder = tmp_path / "MATH-lighteval" / "data"
    folder.mkdir(parents=True)
    for split, row in zip(("train", "test"), MATH, strict=True):
        Dataset.from_list([row]).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    source = str(folder.parent)
    assert [draft().answer for draft in math_sets(source)] == ["\\frac{2}{3}"]
    (test,) = math_sets(source, split="test", name="hendrycks")
    assert (test().id, test().task, test().answer) == ("hendrycks-test-1", "math/hendrycks", "4")


def test_a_json_list_is_read_too(tmp_path):
    file = tmp_path / "OE_TO_maths_en_COMP.json"
    file.write_text(json.dumps([OLYMPIAD, OLYMPIAD]))
    ids = [draft().id for draft in math_sets(str(file))]
    assert ids == ["OE_TO_maths_en_COMP-1", "OE_TO_maths_en_COMP-2"]


def test_an_answer_may_change_its_type_from_line_to_line(tmp_path):
    rows = [{"problem": "?", "answer": answer} for answer in (5, "x", 2.5, ["1", "2"])]
    assert [draft().answer for draft in math_sets(jsonl(tmp_path, *rows))] == ["5", "x", "2.5", "1"]


def test_the_converter_is_registered():
    assert converters.get("math").function is math_sets
