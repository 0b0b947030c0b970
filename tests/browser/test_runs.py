"""Rollouts and Training in a browser: what a reader sees of a run, also while it goes on."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gpg_vl.training.records import MetricsFile
from tests.support.made import HOSTILE
from tests.support.runs import RIGHT, WRONG, sampled_group, write_step
from tests.support.serving import served
from tests.support.tabs import open_tab

STEPS = 12
SLOW = 0.4
"""Seconds by which requests are delayed."""

SLOWLY = """
import time

def slowly(completion, sample):
    time.sleep(0.1)
    return float("1" in completion.text)
"""
"""A reward that takes its time."""


def choose(page: Page, box: str, option: str) -> None:
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_rollouts_are_browsed_and_scored_again(page):
    open_tab(page, "Rollouts")
    cards = page.locator(".gpg.grid .card")
    expect(cards.locator("h3")).to_have_text(["Answer 3", "Answer 1", "Answer 2"])  # the valid group
    expect(cards.filter(has_text=HOSTILE)).to_have_count(1)
    page.get_by_role("combobox", name="Question").locator("visible=true").click()
    page.get_by_role("option", name="discarded").click()
    expect(page.get_by_text("discarded: all rewards equal")).to_be_visible()
    page.get_by_role("spinbutton", name="Step").fill("1")
    page.keyboard.press("Enter")
    expect(cards.locator("h3")).to_have_text(["Answer 1", "Answer 2"])
    choose(page, "Score again with", "format")
    expect(cards.locator("dt").last).to_have_text("format (again)")
    expect(page.get_by_text("format: mean 0.5 over 2 answers; the group would be valid.")).to_be_visible()
    page.get_by_role("button", name="Score the whole step").click()
    expect(page.get_by_text("Step 1 scored with format: 1 of 1 groups.")).to_be_visible()
    expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Stop").locator("visible=true")).to_have_count(0)
    choose(page, "Score again with", "choice")
    expect(page.get_by_text("scored with format")).to_have_count(0)


def test_answers_of_all_steps_are_searched(page):
    open_tab(page, "Rollouts")
    page.get_by_role("textbox", name="Search in the answers").fill("(b)")
    expect(page.get_by_text("1 found")).to_have_count(0)  # the list is folded
    page.get_by_role("radio", name="All steps").check()
    expect(page.get_by_text("2 groups with '(b)'.")).to_be_visible()
    page.get_by_role("combobox", name="Question").locator("visible=true").click()
    page.get_by_role("option", name="step 1 · group 1").click()
    expect(page.get_by_role("spinbutton", name="Step")).to_have_value("1")
    expect(page.locator(".gpg.grid .card h3")).to_have_text(["Answer 1", "Answer 2"])
    page.get_by_role("textbox", name="Search in the answers").fill("nowhere to be found")
    expect(page.get_by_text("0 groups with 'nowhere to be found'.")).to_be_visible()
    expect(page.locator(".gpg.grid .card")).to_have_count(0)


def test_curves_of_two_runs(page):
    open_tab(page, "Training")
    figures = page.locator(".curves figure")
    expect(figures.locator("b")).to_have_text(["Reward", "Accuracy", "Gradient norm"])
    expect(page.get_by_text("own: step 5", exact=True)).to_be_visible()
    expect(figures.nth(1).locator("circle")).to_have_count(2)  # its evaluations
    choose(page, "Compare with the run", "other")
    expect(page.get_by_text("other: step 5", exact=True)).to_be_visible()
    expect(figures.first.locator("path.line")).to_have_count(2)
    figures.first.locator("svg").hover()
    expect(page.locator(".curve-tip")).to_have_text("own, step 3: 0.3\nother, step 3: 0.3")


def test_arrow_keys_move_between_tabs(page):
    tabs = page.get_by_role("tab")
    names = [name.strip() for name in tabs.all_inner_texts()]
    tabs.first.focus()
    for key, place in (("ArrowRight", 1), ("End", -1), ("ArrowRight", 0), ("ArrowLeft", -1), ("Home", 0)):
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name=names[place])).to_be_focused()
        expect(page.get_by_role("tab", name=names[place])).to_have_attribute("aria-selected", "true")
    ring = "node => getComputedStyle(node).outlineStyle"
    assert page.get_by_role("tab", name=names[0]).evaluate(ring) == "solid"


@pytest.fixture(scope="module")
def growing(chromium: Browser, tiny_folder, scenes_folder, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """An app whose run has just begun: its address and the run's folder, which is empty."""
    folder = tmp_path_factory.mktemp("growing")
    run = folder / "runs" / "own"
    run.mkdir(parents=True)
    (folder / "own.py").write_text(SLOWLY)
    more = ("--reward", folder / "own.py:slowly")
    with served(folder, "--base", tiny_folder, "--run", run, "--data", scenes_folder, *more) as server:
        yield server, run


@pytest.fixture
def run(growing, scene_samples) -> Iterator[Path]:
    """The run's folder with rollouts of some steps; the answers name their step, and so do the means."""
    folder = growing[1]
    question = next(sample for sample in scene_samples if sample.answer == "(A)")
    for step in range(1, STEPS + 1):
        texts = [*[f"step {step}: {RIGHT}"] * step, f"step {step}: {WRONG}"]
        write_step(folder / f"rollouts/step_{step:06}.parquet", [sampled_group(question, texts)])
    yield folder
    for name in ("rollouts", "eval"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.jsonl", "config.yaml"):
        (folder / name).unlink(missing_ok=True)


@pytest.fixture
def window(chromium: Browser, growing) -> Iterator[Page]:
    """A page of that app."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(growing[0])
    expect(page.get_by_role("tab", name="Rollouts")).to_be_visible()
    yield page
    page.close()


def slow(page: Page) -> None:
    """Delay what the page asks, the first requests most: later answers overtake them."""
    delays = iter([3 * SLOW, SLOW])

    def delay(route) -> None:
        time.sleep(next(delays, SLOW / 4))
        route.continue_()

    page.route("**/queue/join*", delay)


def test_quick_keys_end_with_what_the_controls_say(window, run):
    open_tab(window, "Rollouts")
    slider = window.get_by_role("slider")
    expect(slider).to_have_value(str(STEPS))
    slider.focus()
    window.keyboard.press("Home")
    expect(window.locator(".gpg.grid .card").first).to_contain_text("step 1:")
    slow(window)
    for _ in range(10):
        window.keyboard.press("ArrowRight")
    expect(slider).to_have_value("11")
    expect(window.locator(".gpg.grid .card").first).to_contain_text("step 11:")
    chosen = window.get_by_role("combobox", name="Question").locator("visible=true")
    header = window.locator(".card.question header").inner_text()
    expect(chosen).to_have_value(f"1 · {header.replace(' · round 1', '')} · mean reward 0.92")
    window.wait_for_timeout(2000)  # nothing old comes after it
    expect(window.locator(".gpg.grid .card").first).to_contain_text("step 11:")


def test_quick_changes_of_the_reward_end_with_the_last(window, run):
    open_tab(window, "Rollouts")
    expect(window.locator(".gpg.grid .card").first).to_be_visible()
    slow(window)
    for reward in ("choice", "format", "iou"):
        choose(window, "Score again with", reward)
    expect(window.get_by_text("iou cannot grade every answer")).to_be_visible()
    window.wait_for_timeout(2000)
    expect(window.get_by_text("iou cannot grade every answer")).to_be_visible()


def test_stop_ends_the_scoring_of_a_step(window, run, scene_samples):
    groups = [sampled_group(scene_samples[0], [RIGHT, WRONG]) for _ in range(100)]  # for 20 seconds
    write_step(run / f"rollouts/step_{STEPS + 1:06}.parquet", groups)
    window.reload()
    open_tab(window, "Rollouts")
    choose(window, "Score again with", "own.py:slowly")
    stop = window.get_by_role("button", name="Stop").locator("visible=true")
    report = window.get_by_text(f"Step {STEPS + 1} scored with own.py:slowly:")
    window.get_by_role("button", name="Score the whole step").click()
    expect(report).to_contain_text("of 100 groups…")
    stop.click()
    expect(report).to_contain_text("of 100 groups; stopped.")
    expect(stop).to_have_count(0)
    stopped = report.inner_text()
    window.wait_for_timeout(3000)  # in which it would have gone on
    assert report.inner_text() == stopped and "100 of 100" not in stopped


def test_a_run_that_has_just_begun_needs_no_restart(window, growing, scene_samples):
    folder = growing[1]
    open_tab(window, "Rollouts")
    expect(window.get_by_text("holds no rollout records yet")).to_be_visible()
    expect(window.get_by_role("slider")).to_have_count(0)
    path = folder / "rollouts" / "step_000003.parquet"
    write_step(path, [sampled_group(scene_samples[0], [RIGHT, WRONG])])
    expect(window.locator(".gpg.grid .card")).to_have_count(2)
    expect(window.get_by_role("spinbutton", name="Step")).to_have_value("3")
    shutil.rmtree(folder / "rollouts")
    expect(window.get_by_text("has no rollout records any more")).to_be_visible()
    expect(window.locator(".gpg.grid .card")).to_have_count(0)
    open_tab(window, "Training")
    expect(window.get_by_text("No step is written to metrics.jsonl yet")).to_be_visible()
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "accuracy": 0.5}) + "\n")
    expect(window.locator(".curves figure")).to_have_count(1)
    (folder / "metrics.jsonl").unlink()


def test_broken_files_are_told_and_the_rest_is_there(window, run):
    (run / "config.yaml").write_text("a: [")
    (run / f"rollouts/step_{STEPS - 1:06}.parquet").write_bytes(b"half")
    open_tab(window, "Rollouts")
    expect(window.locator(".gpg.note").filter(has_text="config.yaml").first).to_be_visible()
    expect(window.locator(".gpg.grid .card").first).to_contain_text(f"step {STEPS}:")
    window.get_by_role("slider").focus()
    window.keyboard.press("ArrowLeft")
    expect(window.get_by_text("is no file of rollout records")).to_be_visible()
    window.keyboard.press("ArrowLeft")
    expect(window.locator(".gpg.grid .card").first).to_contain_text(f"step {STEPS - 2}:")


def test_the_curves_of_a_long_run_are_light(window, run, chromium):
    """Twenty panels of 600 steps: below a second of the browser's main thread, below 3,000 nodes."""
    metrics = MetricsFile(run / "metrics.jsonl", 0)
    parts = [f"reward/part {n}" for n in range(13)]
    for step in range(1, 601):
        noise = (step * 7919 % 101) / 101
        names = (
            "reward/mean",
            "accuracy",
            "alpha",
            "answer_tokens",
            "entropy",
            "grad_norm",
            "tokens_per_second",
        )
        metrics.write(step, {name: noise for name in (*names, *parts)})
    window.reload()
    session = window.context.new_cdp_session(window)
    session.send("Performance.enable")

    def measured() -> dict[str, float]:
        found = session.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in found}

    expect(window.get_by_role("tab", name="Training")).to_be_visible()
    window.wait_for_timeout(2000)
    before = measured()
    open_tab(window, "Training")
    expect(window.locator(".curves figure")).to_have_count(20)
    window.wait_for_timeout(500)
    after = measured()
    assert after["TaskDuration"] - before["TaskDuration"] < 1
    assert window.evaluate("document.querySelectorAll('*').length") < 3000
