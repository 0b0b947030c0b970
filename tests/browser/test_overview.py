"""Overview and Benchmark as a visitor uses them: what training changed, and the questions behind it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.evaluations import evaluation, sampled
from tests.support.made import HOSTILE, OUTCOMES
from tests.support.serving import served
from tests.support.tabs import open_tab

from .conftest import PATIENCE


def rows(page: Page) -> Locator:
    return page.locator("#questions button.row")


def pane(page: Page, kind: str) -> Locator:
    return page.locator(f"#compare-{kind}")


def test_the_page_opens_on_what_training_changed(page, scene_samples):
    """Ten seconds: both scores, of what, how sure, by task, and what it looks like."""
    expect(page.get_by_role("tab", name="Overview")).to_have_attribute("aria-selected", "true")
    shown = page.locator("#overview")
    expect(shown.locator(".figure")).to_have_text("50.0 → 50.0\u00a0%")
    expect(shown.locator(".measured")).to_have_text("accuracy on 4 questions")
    expect(shown.locator(".models span")).to_have_text(["Base: step 0", "Trained: step 1"])
    expect(shown.locator(".change")).to_contain_text("95 % interval")
    expect(shown.locator(".figure")).to_be_in_viewport()
    expect(shown.locator(".task").first).to_be_in_viewport()
    cards = shown.locator("button.example")
    expect(cards.locator(".badge")).to_have_text(["Fixed", "Broken"])
    expect(cards.first).to_be_in_viewport()
    fixed = cards.first
    expect(fixed.locator("img")).to_have_js_property("complete", True)
    assert fixed.locator("img").evaluate("image => image.naturalWidth") > 50
    sample = scene_samples[1]  # the first one of the evaluations
    gold = sample.choices["ABCD".index(sample.answer[1])]
    expect(fixed.locator(".says")).to_have_text([f"✗ {HOSTILE}", f"✓ {gold}", gold])


def test_a_card_opens_both_stored_answers(page, scene_samples):
    page.locator("#overview button.example").filter(has_text="Broken").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(pane(page, "base").locator(".final")).to_contain_text(scene_samples[2].answer)
    expect(pane(page, "trained").locator(".final")).to_have_text(HOSTILE)
    expect(page.locator("#question textarea")).to_have_value(scene_samples[2].question)
    open_tab(page, "Overview")
    page.locator("#overview button.example").filter(has_text="Fixed").click()
    expect(pane(page, "base").locator(".final")).to_have_text(HOSTILE)


def test_a_filtered_question_opens_in_compare(page, scene_samples):
    """Filter by outcome, click: both stored answers, the image, and the question's number."""
    open_tab(page, "Benchmark")
    expect(rows(page).locator(".badge")).to_have_text(list(OUTCOMES))
    for outcome in ("Broken", "Fixed"):
        page.get_by_role("radio", name=outcome).check()
        expect(rows(page).locator(".badge")).to_have_text([outcome])
    sample = scene_samples[1]
    assert sample.id not in rows(page).inner_text()
    rows(page).click()
    base, trained = pane(page, "base"), pane(page, "trained")
    expect(base.locator(".final")).to_have_text(HOSTILE)
    expect(base.locator(".badge").first).to_have_text("✗ wrong")
    expect(trained.locator(".final")).to_contain_text(sample.answer)
    expect(page.locator("#question textarea")).to_have_value(sample.question)
    expect(page.get_by_role("spinbutton", name="Question")).to_have_value("2")
    expect(page.locator("#image .image-frame img")).to_be_visible()
    page.wait_for_timeout(300)  # the new number brings no blank panes
    expect(base.locator(".final")).to_have_text(HOSTILE)
    sent = json.loads(page.locator("#benchmark-selection textarea").input_value())
    assert (sent["outcome"], sent["task"], sent["id"]) == ("Fixed", "All", sample.id)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_row_opens_with_the_keyboard(page, key):
    open_tab(page, "Benchmark")
    for _ in range(2):  # also the same row again
        rows(page).filter(has_text="Broken").focus()
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
        expect(pane(page, "trained").locator(".final")).to_have_text(HOSTILE)
        open_tab(page, "Benchmark")


def test_questions_are_searched_also_by_their_id(page, scene_samples):
    open_tab(page, "Benchmark")
    page.get_by_role("textbox", name="Search").fill(scene_samples[3].id)
    expect(rows(page).locator(".badge")).to_have_text(["Both right"])
    page.get_by_role("textbox", name="Search").fill("nowhere")
    expect(page.locator("#questions .hint")).to_have_text("0 of 4 questions")
    expect(rows(page)).to_have_count(0)


def test_rows_are_stacked_on_a_phone(page):
    """Each name stands before its answer, where columns have no room."""
    page.set_viewport_size({"width": 390, "height": 800})
    open_tab(page, "Benchmark")
    row = rows(page).first
    expect(row.get_by_text("Trained")).to_be_visible()
    image, question, *cells = (
        part.bounding_box()
        for part in (row.locator("img"), row.locator(".asks"), *row.locator(".cell").all())
    )
    assert question["x"] > image["x"] + image["width"]
    tops = [cell["y"] for cell in cells]
    assert tops == sorted(set(tops)) and tops[0] > question["y"]
    assert {cell["x"] for cell in cells} == {image["x"]}


@pytest.fixture(scope="module")
def growing(
    chromium: Browser, tiny_folder: Path, scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """An app beside a run that has only begun."""
    folder = tmp_path_factory.mktemp("growing")
    run = folder / "runs" / "new"
    (run / "eval").mkdir(parents=True)
    with served(folder, "--base", tiny_folder, "--run", run, "--data", scenes_folder) as server:
        yield server, run / "eval"


@pytest.fixture
def begun(chromium: Browser, growing: tuple[str, Path]) -> Iterator[tuple[Page, Path]]:
    """A window that has not opened the app yet, and the folder of the run's evaluations."""
    address, folder = growing
    window = chromium.new_page(viewport={"width": 1280, "height": 900}, base_url=address)
    window.set_default_timeout(PATIENCE)
    yield window, folder
    window.close()
    for path in folder.iterdir():
        path.unlink()


def write(folder: Path, step: int, content: dict) -> Path:
    path = folder / f"step_{step:06}.json"
    path.write_text(json.dumps({**content, "step": step}))
    return path


def begin(page: Page, tab: str) -> None:
    """Open the app, which opens on `tab`."""
    page.goto("/")
    expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")


def test_the_first_evaluations_appear_by_themselves(begun):
    """Until then the page opens on Compare, and Overview says what it waits for; half a file is no error."""
    page, folder = begun
    begin(page, "Compare")
    open_tab(page, "Overview")
    note = page.locator("#overview .note")
    expect(note).to_contain_text("The run new has no evaluation in its eval folder")
    write(folder, 0, evaluation(0))
    expect(note).to_contain_text("has one evaluation so far")
    whole = json.dumps({**evaluation(1), "step": 9})
    (folder / "step_000009.json").write_text(whole[: len(whole) // 2])
    page.wait_for_timeout(6000)  # longer than between two looks
    expect(note).to_contain_text("has one evaluation so far")
    (folder / "step_000009.json").write_text(whole)
    expect(page.locator("#overview .models span")).to_have_text(["Base: step 0", "Trained: step 9"])
    begin(page, "Overview")


def test_a_deleted_evaluation_leaves_with_its_numbers(begun):
    page, folder = begun
    for step in (0, 5, 9):
        write(folder, step, evaluation(min(step, 1)))
    begin(page, "Overview")
    open_tab(page, "Benchmark")
    expect(page.get_by_role("combobox", name="Trained: evaluation B")).to_have_value("step 9")
    figure, message = page.locator(".tiles b").first, page.locator(".note").locator("visible=true")
    expect(figure).to_have_text("50.0 → 50.0 %")
    (folder / "step_000009.json").unlink()
    expect(message).to_contain_text("The evaluation step 9 is gone")
    expect(figure).to_have_count(0)
    expect(rows(page)).to_have_count(0)
    page.get_by_role("combobox", name="Trained: evaluation B").click()
    options = page.get_by_role("option")
    expect(options).to_have_text([re.compile("step 0"), re.compile("step 5")])
    options.last.click()
    expect(figure).to_have_text("50.0 → 50.0 %")
    open_tab(page, "Overview")
    expect(page.locator("#overview .models span")).to_have_text(["Base: step 0", "Trained: step 5"])


def test_several_answers_a_question(begun):
    """What `gpg-vl eval --samples 4` wrote: shares in the list, each answer in Compare."""
    page, folder = begun
    write(folder, 0, sampled(0))
    write(folder, 9, sampled(1))
    begin(page, "Overview")
    open_tab(page, "Benchmark")
    row = rows(page).filter(has_text="Fixed")
    expect(row.locator(".cell").last).to_contain_text("one (3 of 4 answers)")
    expect(row.locator(".cell").last).to_contain_text("3 of 4 right")
    row.click()
    expect(pane(page, "base").locator(".final")).to_have_text("no answer (3 of 4 answers)")
    expect(pane(page, "base").locator("summary")).to_have_count(4)
    pane(page, "base").locator("summary").last.click()
    expect(pane(page, "base").get_by_text("<answer>(A)</answer>")).to_be_visible()


def test_a_long_list_has_pages_and_stays_quick(begun):
    page, folder = begun
    for step in (0, 9):
        one = evaluation(min(step, 1))
        item = one["items"][0]
        one["items"] = [{**item, "id": f"q{n}", "question": f"Number {n}?"} for n in range(640)]
        write(folder, step, one)
    begin(page, "Overview")
    open_tab(page, "Benchmark")
    expect(rows(page)).to_have_count(50)
    expect(page.locator(".pager")).to_contain_text("1 to 50 of 640")
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(rows(page).first).to_contain_text("Number 50?")
    expect(page.locator(".pager")).to_contain_text("51 to 100 of 640")
    page.get_by_role("radio", name="Fixed").check()
    expect(page.locator(".pager")).to_contain_text("1 to 50 of 640")
    busy = page.evaluate(LONGEST, "Broken")
    expect(rows(page)).to_have_count(0)
    assert busy < 1000, f"{busy} ms"


LONGEST = """async name => {
  let longest = 0
  const observer = new PerformanceObserver(list =>
    list.getEntries().forEach(entry => longest = Math.max(longest, entry.duration)))
  observer.observe({entryTypes: ["longtask"]})
  document.querySelector(`input[type=radio][value=${name}]`).click()
  await new Promise(done => setTimeout(done, 2500))
  return longest
}"""
"""The longest task of the main thread in milliseconds while another outcome is chosen."""
