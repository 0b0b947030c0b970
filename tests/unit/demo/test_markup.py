import re

import pytest

from gpg_vl.demo.parts.markup import Shown, answer_card, block, facts, note, question_card, shown_item

HOSTILE = "<img src=x onerror=alert(1)>\n<script>x</script>&lt;\"'"
OWN_TAGS = {"article", "header", "h3", "small", "span", "div", "details", "summary", "dl", "dt", "dd", "p"}
OWN_TAGS |= {"ul", "li"}


def tags(markup):
    return set(re.findall(r"<(\w+)", markup))


def card(text, answer, **more):
    return answer_card(Shown("Base", text, answer, **more))


@pytest.mark.parametrize(
    "markup",
    [
        block(HOSTILE),
        note(HOSTILE),
        question_card(HOSTILE, [HOSTILE], HOSTILE, HOSTILE),
        answer_card(
            Shown(HOSTILE, HOSTILE, HOSTILE, labels=[HOSTILE], facts=[HOSTILE], rewards={HOSTILE: 1})
        ),
        card(f"<think>{HOSTILE}</think>{HOSTILE}<answer>{HOSTILE}</answer>", HOSTILE),
    ],
    ids=["block", "note", "question", "everywhere", "parts"],
)
def test_hostile_text_stays_text(markup):
    assert tags(markup) <= OWN_TAGS
    assert "&lt;img src=x onerror=alert(1)&gt;&#10;&lt;script&gt;" in markup
    assert "\n" not in markup


@pytest.mark.parametrize(
    ("text", "answer", "think_opened", "folded", "beside"),
    [
        ("<think>Two balls.</think><answer>(B)</answer>", "(B)", False, "Two balls.", ""),
        ("Two balls.</think>So:<answer>(B)</answer>", "(B)", True, "Two balls.", "So:"),
        ("Two balls", None, True, "Two balls", ""),
        ("Two balls", None, False, "", "Two balls"),
        ("<think>a</think><answer>b", None, False, "a", '<span class="gpg-tag">&lt;answer&gt;</span>b'),
        ("<think>a</think> before <answer>b</answer> after", "b", False, "a", "before&#10;after"),
        ("", None, False, "", ""),
    ],
)
def test_reasoning_is_folded_and_the_rest_is_not(text, answer, think_opened, folded, beside):
    found = card(text, answer, think_opened=think_opened)
    open_part, _, details = found.partition("<details>")
    assert (f">{folded}</div></details>" in details) if folded else not details
    assert re.findall(r'<div class="gpg-text" dir="auto">(.*?)</div>', open_part) == (
        [beside] if beside else []
    )
    assert (f'<div class="final" dir="auto">{answer}</div>' if answer else "No answer found") in open_part


def test_an_empty_answer_is_no_missing_one():
    assert "Empty answer" in card("<answer></answer>", "")


def test_while_the_model_writes_the_reasoning_is_open():
    found = card("<think>Two", None, running=True)
    assert "<details open>" in found
    assert "No answer found" not in found


def test_a_stored_item_as_a_card():
    item = {
        "output": "Two.</think><answer>(B)</answer>",
        "answer": "(B)",
        "prompt": "… <think>\n",
        "correct": 0.0,
        "token_count": 1,
        "finish_reason": "length",
        "scores": {"choice": 0.0, "format": 0.12345},
    }
    shown = shown_item(item, "Trained", "trained")
    assert (shown.think_opened, shown.right, shown.facts) == (True, False, ["1 token", "cut off"])
    found = answer_card(shown)
    assert '<article class="gpg card trained">' in found
    assert "✗ wrong" in found
    assert "<dt>format</dt><dd>0.123</dd>" in found


def test_facts():
    assert facts(1234, 2.345) == ["1,234 tokens", "2.3 s"]
    assert facts(2, finish_reason="stop") == ["2 tokens"]
