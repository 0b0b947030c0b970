"""The page outlives the server: it says what it asks about, whatever the server remembers."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from gpg_vl.data.ingest import write_prepared
from gpg_vl.types import Sample
from tests.browser.conftest import PATIENCE
from tests.support.families import save_endless
from tests.support.inputs import noise
from tests.support.made import BOXED, make_run
from tests.support.serving import running, served
from tests.support.tabs import open_tab

SQUARE = replace(BOXED, id="square", question="Where is the square?")
WIDE = replace(BOXED, id="wide", question="Where is the wide one?", images=(noise(224, 112),))
"""The image that the models were asked about is the one that boxes are drawn on: these differ in shape."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def shape(page: Page) -> float:
    """Width over height of the image that the models were asked about."""
    drawing = page.locator("#boxes img").first
    expect(drawing).to_be_visible()
    return float(
        drawing.evaluate("async node => (await node.decode(), node.naturalWidth / node.naturalHeight)")
    )


def cut(route: Route) -> None:
    """A stream of results whose server ended a moment too early: it does not say that it is over."""
    whole = route.fetch()
    kept = [part for part in whole.text().split("\n\n") if "close_stream" not in part]
    route.fulfill(response=whole, body="\n\n".join(kept))


def test_a_stream_that_breaks_off_is_not_the_last_that_is_read(page: Page):
    open_tab(page, "Compare")
    page.route("**/queue/data*", cut, times=1)
    for number in (2, 3):
        page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
        expect(page.get_by_text(f"Question {number} of 48")).to_be_visible()


@pytest.fixture
def window(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def test_a_server_that_goes_away_takes_nothing_that_was_typed(
    window: Page, tiny_folder: Path, scene_samples: list[Sample], tmp_path: Path
):
    """It is killed while it answers; what is asked until it is back waits, with the looks into the run."""
    save_endless(tmp_path / "endless", tiny_folder)
    run = tmp_path / "runs" / "own"
    make_run(run, scene_samples)
    options = ("--base", tmp_path / "endless", "--run", run, "--port", free_port(), "--max_new_tokens", 4000)
    question, badge = window.locator("#math-question textarea"), window.locator("#math-base .badge")
    away = window.get_by_text("The server does not answer.")
    with running(tmp_path, *options) as app:
        window.goto(app.address)
        open_tab(window, "Math")
        window.get_by_role("button", name="Sampling").locator("visible=true").click()
        window.get_by_role("spinbutton", name="Most new tokens").locator("visible=true").fill("4000")
        question.fill("How many?")
        window.locator("#math-ask").click()
        expect(badge).to_have_text("writing")
        app.process.kill()
    expect(badge).to_have_text("stopped")
    expect(window.get_by_test_id("toast-body").first).to_contain_text("ask again")
    question.fill("How many now?")
    window.locator("#math-ask").click()
    expect(away).to_be_visible()
    with running(tmp_path, *options):
        expect(badge).to_have_text("writing")
        expect(away).to_be_hidden()
        expect(question).to_have_value("How many now?")


def test_after_a_restart_the_models_are_asked_about_the_image_that_is_shown(
    window: Page, tiny_folder: Path, tmp_path: Path
):
    """The second question of a set, asked by a page that the server never saw; then the set is another."""
    options = {"source": "", "converter": "refcoco", "version": "1"}
    write_prepared([SQUARE, WIDE], tmp_path / "set", **options)
    data = ("--data", tmp_path / "set", "--port", free_port(), "--max_new_tokens", 8)
    with served(tmp_path, "--base", tiny_folder, *data) as address:
        window.goto(address)
        window.get_by_role("tab", name="Compare").click()
        window.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
        expect(window.get_by_text("Question 2 of 2")).to_be_visible()
        expect(window.locator("#question textarea")).to_have_value(WIDE.question)
    with served(tmp_path, "--base", tiny_folder, *data):
        window.locator("#ask").click()
        expect(window.locator("#compare-base small")).to_contain_text("token")
        assert shape(window) == 2
        window.get_by_role("button", name="Previous", exact=True).locator("visible=true").click()
        expect(window.locator("#question textarea")).to_have_value(SQUARE.question)
    (tmp_path / "set").rename(tmp_path / "old")
    write_prepared([WIDE, SQUARE], tmp_path / "set", **options)
    with served(tmp_path, "--base", tiny_folder, *data):
        window.locator("#ask").click()
        expect(window.get_by_test_id("toast-body").first).to_contain_text("reload the page")
        expect(window.locator("#compare-base .badge")).to_have_text("stopped")
