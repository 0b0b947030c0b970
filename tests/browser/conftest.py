"""One app and one Chromium for all of these tests."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gpg_vl.data.ingest import write_prepared
from gpg_vl.types import Sample
from tests.support.families import save_endless
from tests.support.made import BOXED, HOSTILE, make_run, teach
from tests.support.serving import served
from tests.support.tabs import Traffic

LIMITS = ("--upload_megapixels", "0.02", "--max_new_tokens", "4000")
PATIENCE = 60_000
"""Milliseconds: beside other work, a page takes long."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Closed after this package: while it is open, no other test can run an event loop."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, (shutil.which(name) for name in names if name)), None)
    if found is None:
        pytest.skip("no Chromium: set CHROMIUM to its path, or install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture(scope="package")
def address(
    chromium: Browser,  # first, so that nothing is built where there is none
    tiny_folder: Path,
    scenes_folder: Path,
    scene_samples: list[Sample],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Base writes until it is cut off; trained writes the same hostile answer with a box to everything."""
    folder = tmp_path_factory.mktemp("browser")
    save_endless(folder / "base", tiny_folder)
    boxed = [replace(BOXED, question=f"{BOXED.question} {HOSTILE}"), replace(BOXED, id="again")]
    write_prepared(boxed, folder / "boxes", source="", converter="refcoco", version="1")
    teach(tiny_folder, folder / "trained", [boxed[0], *scene_samples[:4]])
    make_run(folder / "runs" / "own", scene_samples[1:])
    models = ("--base", folder / "base", "--trained", folder / "trained", "--run", folder / "runs" / "own")
    with served(folder, *models, "--data", scenes_folder, folder / "boxes", *LIMITS) as server:
        yield server


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """The app in a fresh window, in which no text may have become a script or an element."""
    window = chromium.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    window.set_default_timeout(PATIENCE)
    problems: list[str] = []
    window.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
    window.on("pageerror", lambda error: problems.append(str(error)))
    traffic = Traffic(window)
    window.goto(address)
    expect(window.locator("#overview .result").first).to_be_visible()
    traffic.settle()
    yield window
    assert not problems
    assert window.locator("img[src='x']").count() == 0
    window.close()
