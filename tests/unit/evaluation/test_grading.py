import pytest
import torch

from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED, Benchmark, Measure
from gpg_vl.evaluation.grading import check_rewards, grade
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.engine import Answer
from gpg_vl.types import Sample

PROMPT = EncodedPrompt(
    torch.tensor([1, 2, 3]), torch.zeros(3, 3), torch.zeros(3) > 0, None, torch.zeros(0, 3)
)
CHOICE = Sample("q", "t", "Which?", "(A)", "choice", ("red", "blue"), meta={"source": "COCO", "cluster": "i"})
WHOLE = "<think>It glows.</think><answer>(A)</answer>"


def answered(sample, *texts, boxes=None):
    answers = tuple(Answer((5, 6), (-0.5, -0.5), text, "eos") for text in texts)
    completions = tuple(
        parse_completion(a.text, think_opened=False, token_count=2, finish_reason="eos", to_image=boxes)
        for a in answers
    )
    return Answered(sample, PROMPT, answers, completions)


def test_an_item_says_all_there_is_to_know():
    (item,) = grade([answered(CHOICE, WHOLE)], PREPARED)
    assert item == {
        **{"id": "q", "task": "t", "cluster": "i", "source": "COCO", "question": "Which?"},
        **{"choices": ["red", "blue"], "images": 0, "gold": "(A)", "prompt_tokens": 3},
        **{"output": WHOLE, "answer": "(A)", "found_in": "tags", "correct": 1.0, "graded": True},
        **{"scores": {"choice": 1.0, "format": 1.0}, "finish_reason": "eos", "token_count": 2},
    }


@pytest.mark.parametrize(
    ("text", "strict", "cv_bench"),
    [
        (WHOLE, 1.0, 1.0),
        ("The answer is (A).", 0.0, 1.0),
        ("It is red", 0.0, 1.0),
        ("(A) or (B)", 0.0, 0.0),
        ("<answer>(B)</answer> though (A)", 0.0, 0.0),  # what stands in the tags counts
        ("<think>Not (B).</think>So (A).", 0.0, 1.0),
        ("<think>It is (A), or is it", 0.0, 0.0),  # a thought is no answer
        ("", 0.0, 0.0),
    ],
)
def test_cv_bench_looks_for_an_answer_outside_the_tags(text, strict, cv_bench):
    for benchmark, expected in ((PREPARED, strict), (BENCHMARKS["cv_bench"], cv_bench)):
        (item,) = grade([answered(CHOICE, text)], benchmark)
        assert item["correct"] == item["scores"]["choice"] == expected


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("<think>a</think><answer>65</answer>", 1.0, 1.0),
        ("<think>a</think><answer>66</answer> The answer is 65.", 0.0, 0.0),  # what stands in the tags counts
        ("<think>a</think>The answer is 65°.", 0.0, 1.0),
        ("Since 180 - 115 = 65, the answer is: 65 degrees", 0.0, 1.0),
        ("Angle B is 40. The angles add up to 180.\nSo angle A is 65°.", 0.0, 1.0),
        ("It may be 65. Let us see. Angle A is 66.", 0.0, 0.0),
        ("The answer is 66. No, the answer is 65.", 0.0, 1.0),
        ("The answer is \\boxed{65}, not 66.", 0.0, 1.0),
        ("<answer>65", 0.0, 1.0),
        ("<think>The answer is 65.", 0.0, 0.0),
        ("65 or 66", 0.0, 0.0),
        ("I cannot determine it: 65", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_geoqa_is_graded_strictly_and_leniently(text, strict, lenient):
    sample = Sample("q", "geoqa", "How large is A?", "65°", "number")
    (item,) = grade([answered(sample, text)], BENCHMARKS["geoqa"])
    assert (item["correct"], item["scores"]["lenient"]) == (strict, lenient)


def test_of_several_answers_the_item_has_the_means():
    (item,) = grade([answered(CHOICE, WHOLE, "<answer>(A)</answer>", "<answer>(B)</answer>", "")], PREPARED)
    assert [sample["correct"] for sample in item["samples"]] == [1.0, 1.0, 0.0, 0.0]
    assert item["correct"] == 0.5 and item["scores"] == {"choice": 0.5, "format": 0.25}
    assert item["samples"][0]["output"] == WHOLE and "output" not in item


def test_what_cannot_be_graded_is_wrong_and_says_so():
    bad = Sample("bad", "t", "How many?", "many", "number")
    items = grade([answered(bad, "<answer>7</answer>"), answered(CHOICE, WHOLE)], PREPARED)
    assert [(item["correct"], item["graded"]) for item in items] == [(0.0, False), (1.0, True)]
    assert items[0]["scores"] == {"number": None, "format": 0.0}


def test_boxes_are_right_from_half_an_overlap_on_and_masks_are_optional():
    answer = "[[0, 0, 10, 10]]"
    masked = {"polygons": [[[0, 0], [10, 0], [10, 5], [0, 5]]], "size": [20, 20]}  # the box's upper half
    samples = [
        Sample(name, "t", "Where?", answer, "boxes", meta=meta)
        for name, meta in (("with", masked), ("without", {}))
    ]
    texts = ("<answer>(0,0),(4,10)</answer>", "<answer>(0,0),(10,5)</answer>", "<answer>[1]</answer>")
    groups = [answered(sample, *texts, boxes=lambda box: box) for sample in samples]
    items = grade(groups, BENCHMARKS["lisa"])
    with_mask, without = ([one["scores"] for one in item["samples"]] for item in items)
    assert [scores["iou"] for scores in with_mask] == [0.4, 0.5, 0.0]
    assert [scores["mask_iou"] for scores in with_mask] == [20 / 70, 1.0, 0.0]
    assert [scores["mask_iou"] for scores in without] == [None, None, None]
    assert [one["correct"] for one in items[1]["samples"]] == [0.0, 1.0, 0.0]
    assert items[0]["samples"][0]["boxes"] == [[0.0, 0.0, 4.0, 10.0]]


def test_rewards_are_missed_before_the_first_answer():
    check_rewards(PREPARED, ["choice", "number"])
    with pytest.raises(UnknownNameError, match="choise"):
        check_rewards(Benchmark("b", graders={"math": Measure("choise")}), ["choice", "math"])
    with pytest.raises(ConfigurationError, match="tolerance"):
        check_rewards(Benchmark("b", measures={"m": Measure("number", {"tolerence": 1})}), [])


@pytest.mark.parametrize(
    ("text", "answer", "correct"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", 1.0),
        (r"<think>\boxed{2}</think>so \boxed{0.5}", "0.5", 1.0),
        (r"\boxed{2}, no, \boxed{0.5}", "2, 0.5", 0.0),
        (r"<think>\boxed{0.5}", None, 0.0),
        (r"\boxed{0.5}</answer>", None, 0.0),
        ("1/2", None, 0.0),
    ],
)
def test_the_answer_of_mathematics_is_what_is_scored(text, answer, correct):
    half = Sample("half", "t", "How much?", "0.5", "math")
    (item,) = grade([answered(half, text)], BENCHMARKS["math500"])
    assert (item["answer"], item["correct"]) == (answer, correct)
    assert item["found_in"] == (None if answer is None else "boxed")
