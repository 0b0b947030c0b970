"""Stored answers as a reader knows them."""

import pytest

from gpg_vl.demo.service.answers import choice_text, final_text, gold_text, share_right

CHOICES = ("left", "right", "A")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("(A)", "left"),
        ("(b)", "right"),
        ("B", "right"),
        (" B. ", "right"),
        ("b)", "right"),
        ("(A) left", "left"),
        ("(A) LEFT", "left"),
        ("(A) right", "(A) right"),  # says two things
        ("A", "A"),  # the text of a choice before its letter
        ("left", "left"),
        ("Right", "right"),
        ("a dog", "a dog"),
        ("(D)", "(D)"),
        ("(E) left", "(E) left"),
        ("", ""),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
    ],
)
def test_letters_become_their_choices(answer, text):
    assert choice_text(answer, CHOICES) == text


def test_numbers_stay_without_choices():
    assert choice_text("B", ()) == "B"


def item(**more):
    return {"choices": ["left", "right"], "gold": "(A)", "answer": "(B)", "correct": 0.0, **more}


def test_answers_in_words():
    assert (final_text(item()), gold_text(item()), share_right(item())) == ("right", "left", "")
    assert final_text(item(answer=None)) == final_text(item(answer="")) == "no answer"


def test_spellings_of_one_choice_count_together():
    answers = [{"answer": text, "correct": right} for text, right in zip("BbAA", (0, 0, 1, 1), strict=True)]
    several = item(samples=[*answers, {"answer": "(B) right", "correct": 0.0}])
    assert (final_text(several), share_right(several)) == ("right (3 of 5 answers)", "2 of 5 right")


def test_boxes_are_counted_and_measured():
    answer = item(
        choices=[], gold="[[0, 0, 9, 9], [1, 1, 2, 2]]", boxes=[[0, 0, 9, 8]], scores={"iou": 0.888}
    )
    assert (final_text(answer), gold_text(answer)) == ("1 box, IoU 0.89", "2 boxes")
    assert final_text({**answer, "scores": {"mask": 1.0}}) == "1 box"
