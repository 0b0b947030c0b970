"""The Compare tab as a visitor uses it."""

import io
import re

from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.support.inputs import noise

OVER = re.compile(r"\d+ tokens · .*s")


def pane(page: Page, kind: str) -> Locator:
    return page.locator(f"#compare-{kind}")


def choose(page: Page, label: str, option: str) -> None:
    """Choose in one of the open tab's lists."""
    page.get_by_role("combobox", name=label).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def upload(page: Page, width: int, height: int) -> None:
    file = io.BytesIO()
    noise(width, height).save(file, "PNG")
    payload = FilePayload(name="own.png", mimeType="image/png", buffer=file.getvalue())
    page.locator("#image").get_by_label("Clear").or_(
        page.locator("#image [aria-label='Remove Image']")
    ).click()
    page.locator("#image input[type=file]").set_input_files(payload)


def test_a_sample_is_compared(page):
    """Text grows in both panes; then there are verdicts, rewards, and the prompt one click away."""
    question = page.get_by_label("Question", exact=True)
    first = page.locator("#question textarea").input_value()
    page.get_by_role("button", name="Next").locator("visible=true").click()
    expect(page.locator("#question textarea")).not_to_have_value(first)
    expect(question.first).to_have_value("2")
    page.locator("#ask").click()
    expect(pane(page, "base").locator(".text")).not_to_be_empty()
    expect(pane(page, "base").locator(".badge.wrong")).to_have_count(0)  # still growing
    for kind, reason in (("base", "cut off"), ("trained", "")):
        expect(pane(page, kind).locator("small")).to_contain_text(reason)
        expect(pane(page, kind).locator(".badge.wrong")).to_have_text("✗ wrong")
        expect(pane(page, kind).locator(".rewards dt")).to_have_text(["choice", "format"])
    expect(pane(page, "base").locator(".rewards dd")).to_have_text(["0", "0"])
    expect(pane(page, "trained").locator(".rewards dd")).to_have_text(["0", "1"])
    page.get_by_role("button", name="Prompt sent to trained").locator("visible=true").click()
    expect(page.locator("#compare-trained-prompt textarea")).to_have_value(re.compile(r"<\|im_start\|>user"))


def test_an_upload_is_asked_about(page):
    upload(page, 84, 84)
    expect(page.locator("#image .image-frame img")).to_be_visible()  # one that comes later ends an answer
    gold = page.get_by_label("Gold answer").locator("visible=true")
    expect(gold).to_have_value("")
    page.locator("#ask").click()
    expect(pane(page, "base").locator("small")).to_contain_text("cut off")
    expect(pane(page, "base").locator(".badge")).to_have_count(0)


def test_a_large_upload_is_refused(page):
    upload(page, 200, 101)
    expect(page.get_by_test_id("toast-body")).to_contain_text(
        "200×101 pixels, 0.0 million; the limit is 0.02 million"
    )
    expect(page.locator("#image .image-frame img")).to_have_count(0)


def ask_for_long_answers(page):
    page.get_by_role("button", name="Sampling").locator("visible=true").click()
    page.get_by_label("Several samples").locator("visible=true").check()
    page.get_by_role("spinbutton", name="Most new tokens").locator("visible=true").fill("4000")
    page.locator("#ask").click()
    expect(pane(page, "base").locator("tbody tr")).to_have_count(8)


def test_another_question_ends_the_answer_of_the_one_before(page):
    ask_for_long_answers(page)
    page.get_by_role("button", name="Next").locator("visible=true").click()
    expect(pane(page, "base").locator("tbody tr")).to_have_count(0)
    page.wait_for_timeout(1000)  # late frames would come now
    expect(pane(page, "base").locator("tbody tr")).to_have_count(0)


def test_stop_ends_a_long_answer(page):
    ask_for_long_answers(page)
    page.locator("#stop").click()
    expect(pane(page, "base").locator(".badge")).to_have_text("stopped")
    expect(pane(page, "base").locator("td:last-child").first).not_to_have_text("4,000")


def test_compare_by_keyboard(page):
    """From the top of the page to an answer with Tab, typing and Enter."""
    expect(page.locator("#ask")).to_be_visible()
    question, ask = page.locator("#question textarea"), page.locator("#ask")
    tab_to(page, question)
    page.keyboard.press("Control+A")
    page.keyboard.type("Who?")
    page.wait_for_timeout(2000)  # as a person would need; Gradio passes typed text on a moment later
    tab_to(page, ask)
    assert ask.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(pane(page, "trained").locator("small")).to_contain_text(OVER)
    tab_to(page, page.get_by_role("button", name="Prompt sent to trained").locator("visible=true"))
    page.keyboard.press("Enter")
    expect(page.locator("#compare-trained-prompt textarea")).to_have_value(re.compile(r"Who\?"))


def tab_to(page: Page, target: Locator) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"40 times Tab did not reach {target}")
