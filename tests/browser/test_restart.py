"""The page outlives the server: it says what it asks about, whatever the server remembers."""

import socket
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from gpg_vl.data.ingest import write_prepared
from tests.browser.conftest import PATIENCE
from tests.support.families import save_endless
from tests.support.inputs import noise
from tests.support.made import BOXED
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
    assert len(kept) > 1
    route.fulfill(response=whole, body="\n\n".join(kept))


def test_a_stream_that_breaks_off_is_not_the_last_that_is_read(page: Page):
    open_tab(page, "Compare")
    page.route("**/queue/data*", cut, times=1)
    for number in (2, 3):
        page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
        expect(page.get_by_text(f"Question {number} of 48")).to_be_visible()


def test_a_server_that_goes_away_takes_nothing_that_was_typed(
    chromium: Browser, tiny_folder: Path, tmp_path: Path
):
    """It is killed while it answers; the same page asks the next one."""
    save_endless(tmp_path / "endless", tiny_folder)
    options = ("--base", tmp_path / "endless", "--port", free_port(), "--max_new_tokens", 4000)
    page = chromium.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    with running(tmp_path, *options) as app:
        page.goto(app.address)
        open_tab(page, "Math")
        page.locator("#math-question textarea").fill("How many?")
        page.locator("#math-ask").click()
        expect(page.locator("#math-base .badge")).to_have_text("writing")
        app.process.kill()
    expect(page.locator("#math-base .badge")).to_have_text("stopped")
    expect(page.get_by_test_id("toast-body").first).to_contain_text("ask again")
    with served(tmp_path, *options):
        page.wait_for_timeout(3000)  # Gradio would load the page again now
        expect(page.locator("#math-question textarea")).to_have_value("How many?")
        page.locator("#math-ask").click()
        expect(page.locator("#math-base .badge")).to_have_text("writing")
    page.close()


def test_after_a_restart_the_models_are_asked_about_the_image_that_is_shown(
    chromium: Browser, tiny_folder: Path, tmp_path: Path
):
    """The second question of a set, asked by a page that the server never saw; then the set is another."""
    options = {"source": "", "converter": "refcoco", "version": "1"}
    write_prepared([SQUARE, WIDE], tmp_path / "set", **options)
    data = ("--data", tmp_path / "set", "--port", free_port(), "--max_new_tokens", 8)
    page = chromium.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    with served(tmp_path, "--base", tiny_folder, *data) as address:
        page.goto(address)
        page.get_by_role("tab", name="Compare").click()
        page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
        expect(page.get_by_text("Question 2 of 2")).to_be_visible()
        expect(page.locator("#question textarea")).to_have_value(WIDE.question)
    with served(tmp_path, "--base", tiny_folder, *data):
        page.locator("#ask").click()
        expect(page.locator("#compare-base small")).to_contain_text("token")
        assert shape(page) == 2
        page.get_by_role("button", name="Previous", exact=True).locator("visible=true").click()
        expect(page.locator("#question textarea")).to_have_value(SQUARE.question)
    (tmp_path / "set").rename(tmp_path / "old")
    write_prepared([WIDE, SQUARE], tmp_path / "set", **options)
    with served(tmp_path, "--base", tiny_folder, *data):
        page.locator("#ask").click()
        expect(page.get_by_test_id("toast-body").first).to_contain_text("reload the page")
        expect(page.locator("#compare-base .badge")).to_have_text("stopped")
    page.close()
