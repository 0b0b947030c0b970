"""The Compare tab as a visitor uses it."""

import io
import re

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.support.inputs import noise
from tests.support.tabs import open_tab

REMEMBER = """pane => {
  window.remembered = []
  const look = () => {
    const card = document.querySelector(pane), text = card.querySelector(".gpg-text")
    remembered.push([text ? text.textContent.length : 0, card.querySelector(".badge.wrong") !== null])
  }
  const everything = {childList: true, subtree: true, characterData: true}
  new MutationObserver(look).observe(document.querySelector(pane), everything)
}"""
"""All that a pane ever shows, however fast it changes: the answer's length, and whether it is judged."""
OVER = re.compile(r"\d+ tokens · .*s")


@pytest.fixture
def page(page: Page) -> Page:
    """With Compare open."""
    open_tab(page, "Compare")
    expect(page.locator("#ask")).to_be_visible()
    return page


def pane(page: Page, kind: str) -> Locator:
    return page.locator(f"#compare-{kind}")


def choose(page: Page, label: str, option: str) -> None:
    """Choose in one of the open tab's lists."""
    page.get_by_role("combobox", name=label).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def number(page: Page) -> Locator:
    return page.get_by_role("spinbutton", name="Question").locator("visible=true")


def upload(page: Page, width: int, height: int) -> None:
    file = io.BytesIO()
    noise(width, height).save(file, "PNG")
    payload = FilePayload(name="own.png", mimeType="image/png", buffer=file.getvalue())
    clear(page)
    page.locator("#image input[type=file]").set_input_files(payload)


def clear(page: Page) -> None:
    """Take the image away."""
    other = page.locator("#image [aria-label='Remove Image']")
    page.locator("#image").get_by_label("Clear").or_(other).click()


def test_a_sample_is_compared(page):
    """Text grows in both panes; then there are verdicts, rewards, and the prompt one click away."""
    first = page.locator("#question textarea").input_value()
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(page.locator("#question textarea")).not_to_have_value(first)
    expect(number(page)).to_have_value("2")
    expect(page.get_by_text("Question 2 of 48")).to_be_visible()
    page.evaluate(REMEMBER, "#compare-base")
    page.locator("#ask").click()
    for kind, reason in (("base", "cut off"), ("trained", "")):
        expect(pane(page, kind).locator("small")).to_contain_text(reason)
        expect(pane(page, kind).locator(".badge.wrong")).to_have_text("✗ wrong")
        expect(pane(page, kind).locator(".rewards dt")).to_have_text(["choice", "format"])
    expect(pane(page, "base").locator(".rewards dd")).to_have_text(["0", "0"])
    growing = [length for length, judged in page.evaluate("remembered") if length and not judged]
    assert growing and growing == sorted(growing)  # the verdict came last
    expect(pane(page, "trained").locator(".rewards dd")).to_have_text(["0", "1"])
    page.get_by_role("button", name="Prompt sent to trained").locator("visible=true").click()
    expect(page.locator("#compare-trained-prompt textarea")).to_have_value(re.compile(r"<\|im_start\|>user"))


def test_an_upload_is_asked_about(page):
    upload(page, 84, 84)
    expect(page.locator("#image .image-frame img")).to_be_visible()  # one that comes later ends an answer
    first = page.locator("#question textarea").input_value()
    expect(page.get_by_text("Your own image")).to_be_visible()
    expect(page.get_by_label("Gold answer").locator("visible=true")).to_have_value("")
    expect(page.get_by_role("spinbutton", name="Your own image")).to_have_value("")
    expect(page.locator("#choices textarea")).to_have_value("")
    page.locator("#ask").click()
    expect(pane(page, "base").locator("small")).to_contain_text("cut off")
    expect(pane(page, "base").locator(".badge")).to_have_text([])
    clear(page)  # back to the set's question
    expect(page.get_by_text("Question 1 of 48")).to_be_visible()
    expect(page.locator("#choices textarea")).not_to_have_value("")
    expect(page.locator("#question textarea")).to_have_value(first)
    expect(page.locator("#image .image-frame img")).to_be_visible()
    expect(pane(page, "base")).to_contain_text("The answer will stand here.")


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
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(pane(page, "base").locator("tbody tr")).to_have_count(0)
    page.wait_for_timeout(1000)  # late frames would come now
    expect(pane(page, "base").locator("tbody tr")).to_have_count(0)


def test_stop_ends_a_long_answer(page):
    ask_for_long_answers(page)
    page.locator("#stop").click()
    expect(pane(page, "base").locator(".badge")).to_have_text("stopped")
    expect(page.locator("#stop")).to_be_hidden()
    expect(pane(page, "base").locator("td:last-child").first).not_to_have_text("4,000")


def test_compare_by_keyboard(page):
    """From the top of the page to an answer with Tab, typing and Enter. On the way lists of questions are
    passed through, which change nothing."""
    question, ask = page.locator("#question textarea"), page.locator("#ask")
    asked: list[object] = []
    page.route(
        "**/queue/join*", lambda route: (asked.append(route.request.post_data_json), route.continue_())
    )
    tab_to(page, question)
    page.wait_for_timeout(1000)  # what they ask for would go out now
    assert not [event for event in asked if event["data"]]  # the page's own looks send nothing
    page.keyboard.press("Control+A")
    page.keyboard.type("Who?")
    expect(question).to_have_value("Who?")
    tab_to(page, ask)
    expect(question).to_have_value("Who?")
    assert ask.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(pane(page, "trained").locator("small")).to_contain_text(OVER)
    tab_to(page, page.get_by_role("button", name="Prompt sent to trained").locator("visible=true"))
    page.keyboard.press("Enter")
    expect(page.locator("#compare-trained-prompt textarea")).to_have_value(re.compile(r"Who\?"))


def test_a_task_is_chosen_by_mouse(page):
    """From another question on: it begins at its first one."""
    choose(page, "Task", "scenes/Depth")
    expect(page.get_by_text("Question 1 of 12")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(page.get_by_text("Question 2 of 12")).to_be_visible()
    choose(page, "Task", "scenes/Count")
    expect(page.get_by_text("Question 1 of 12")).to_be_visible()
    expect(page.locator("#question textarea")).to_have_value(re.compile("^How many"))


def test_a_set_is_chosen_by_keyboard(page):
    """With arrows and Enter; its first task comes with it."""
    question, task = page.locator("#question textarea"), page.get_by_role("combobox", name="Task")
    tab_to(page, page.get_by_role("combobox", name="Prepared set").locator("visible=true"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(question).to_have_value(re.compile("^Where"))
    expect(task.locator("visible=true")).to_have_value(re.compile("^boxes"))
    expect(page.get_by_text("Question 1 of 2")).to_be_visible()


def tab_to(page: Page, target: Locator) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"40 times Tab did not reach {target}")


def test_an_upload_while_a_model_writes_leaves_no_half_answer(page):
    ask_for_long_answers(page)
    upload(page, 84, 84)
    expect(page.get_by_text("Your own image")).to_be_visible()
    for kind in ("base", "trained"):
        expect(pane(page, kind)).to_contain_text("The answer will stand here.")
    page.wait_for_timeout(1000)  # late frames would come now
    expect(page.locator(".panes .badge")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()


def test_it_says_what_happens_while_it_runs(page):
    """From the click on, before the request has gone out: one badge each, and Stop."""
    page.get_by_role("button", name="Sampling").locator("visible=true").click()
    page.get_by_role("spinbutton", name="Most new tokens").locator("visible=true").fill("4000")
    expect(page.locator("#stop")).to_be_hidden()
    held: list[Route] = []
    page.route("**/queue/join*", lambda route: held.append(route))
    page.locator("#ask").click()
    for kind in ("base", "trained"):
        expect(pane(page, kind).locator(".badge.working")).to_have_text("waiting")
    expect(page.locator("#stop")).to_be_visible()
    held.pop().continue_()
    page.unroute("**/queue/join*")
    expect(pane(page, "base").locator(".badge.working")).to_have_text("writing")
    page.locator("#stop").click()
    expect(pane(page, "base").locator(".badge")).to_have_text("stopped")
    expect(page.locator(".panes .badge.working")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()


def test_a_refused_request_is_no_work_in_progress(page):
    page.locator("#question textarea").fill("")
    page.wait_for_timeout(1000)  # Gradio passes typed text on a moment later
    page.locator("#ask").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("The question is empty")
    expect(pane(page, "base").locator(".badge")).to_have_text("stopped")
    expect(page.locator("#stop")).to_be_hidden()


def test_samples_and_temperature_are_grey_under_greedy(page):
    page.get_by_role("button", name="Sampling").locator("visible=true").click()
    fields = [page.get_by_role("spinbutton", name=name) for name in ("Answers", "Temperature")]
    for grey, mode in ((True, None), (False, "Several samples"), (True, "Greedy")):
        if mode:
            page.get_by_label(mode).locator("visible=true").check()
        for field in fields:
            expect(field.locator("visible=true")).to_be_enabled(enabled=not grey)


def answered(page: Page) -> Locator:
    """Two whole answers to the question that is shown; returns what says that they are old."""
    page.get_by_role("button", name="Sampling").locator("visible=true").click()
    page.get_by_role("spinbutton", name="Most new tokens").locator("visible=true").fill("4")
    page.locator("#ask").click()
    for kind in ("base", "trained"):
        expect(pane(page, kind).locator("small")).to_contain_text(OVER)
    return page.get_by_text("The question has changed since these answers were given.")


def test_answers_to_another_question_are_marked(page):
    """Each field alone; and no longer once it says again what was asked."""
    old = answered(page)
    expect(old).to_be_hidden()
    gold = page.get_by_label("Gold answer").locator("visible=true")
    for field in (page.locator("#question textarea"), page.locator("#choices textarea"), gold):
        before = field.input_value()
        field.fill(f"{before}?")
        expect(old).to_be_visible()
        field.fill(before)
        expect(old).to_be_hidden()
    choose(page, "Type of answer", "label")
    expect(old).to_be_visible()
    badge = pane(page, "trained").locator(".badge")
    assert badge.evaluate("node => getComputedStyle(node).filter") == "grayscale(1)"
    page.locator("#ask").click()
    expect(old).to_be_hidden()


def test_the_number_is_bounded(page):
    number(page).fill("999")
    expect(number(page)).to_have_value("48")
    expect(page.get_by_text("Question 48 of 48")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(page.get_by_text("Question 1 of 48")).to_be_visible()


def test_next_fixed_and_broken_and_back(page, scene_samples):
    """Without a list all of the run's; both answers are marked as stored, until one asks again."""
    page.get_by_role("button", name="Next broken").click()
    expect(page.locator("#where")).to_have_text("1 of 1 broken")
    expect(page.locator("#question textarea")).to_have_value(scene_samples[2].question)
    page.get_by_role("button", name="Next fixed").click()
    expect(page.locator("#where")).to_have_text("1 of 1 fixed")
    for kind, step in (("base", 0), ("trained", 1)):
        expect(pane(page, kind).locator(".badge.stored")).to_have_text(f"stored · step {step}")
    expect(number(page)).to_have_value("2")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".badge.stored")).to_have_count(0)
    expect(page.get_by_role("button", name="Ask again")).to_be_hidden()
    expect(pane(page, "trained").locator("h3")).to_contain_text("Trained · trained")
    page.get_by_role("button", name="Back to the list").click()
    expect(page.get_by_role("tab", name="Benchmark")).to_have_attribute("aria-selected", "true")
