"""Screenshots of the web app on a finished quickstart, in the widths and themes that the README shows.

    python docs/screenshots.py runs/quickstart --out docs/images

Needs `pip install -e .[dev]` and Chromium: a path in the environment variable CHROMIUM, or `chromium`,
`chromium-browser` or `google-chrome` on PATH.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

WIDTHS = {"desktop": 1280, "phone": 390}
THEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 60
"""For both models to load and answer."""
_TALLEST = 1500
"""Pixels of a screenshot: what is further down says nothing new."""
_PROBLEM = r"Solve $x^2 - 5x + 6 = 0$. What is $\frac{x_1 + x_2}{2}$ of its two solutions?"


def overview(page: Page) -> None:
    """What the page opens on."""
    expect(page.locator("#overview .example img").first).to_be_visible()


def compare(page: Page) -> None:
    """A question that training fixed, asked again."""
    benchmark(page)
    page.locator("#questions button.row").filter(has_text="How many").first.click()
    expect(page.locator("#compare-base .final")).to_be_visible()
    page.locator("#ask").click()
    answered(page.locator("#compare-base"), page.locator("#compare-trained"))


def math(page: Page) -> None:
    tab(page, "Math")
    page.locator("#math-question textarea").fill(_PROBLEM)
    page.locator("#math-ask").click()
    answered(page.locator("#math-base"), page.locator("#math-trained"))


def benchmark(page: Page) -> None:
    tab(page, "Benchmark")
    page.get_by_role("radio", name="Fixed").check()
    expect(page.locator("#questions button.row").first).to_contain_text("Fixed")


def rollouts(page: Page) -> None:
    """A group of an early step, scored again."""
    tab(page, "Rollouts")
    page.get_by_role("spinbutton", name="Step").fill("3")
    page.keyboard.press("Enter")
    expect(page.locator(".gpg.grid .card").first).to_be_visible()
    page.get_by_role("combobox", name="Score again with").click()
    page.get_by_role("option", name="format").click()
    expect(page.get_by_text("format: mean")).to_be_visible()


def training(page: Page) -> None:
    tab(page, "Training")
    expect(page.locator(".curves svg").first).to_be_visible()


TABS: dict[str, Callable[[Page], None]] = {
    "overview": overview,
    "compare": compare,
    "math": math,
    "benchmark": benchmark,
    "rollouts": rollouts,
    "training": training,
}


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def answered(*panes: Locator) -> None:
    """Wait until models have answered: stored answers have no seconds, growing ones no final answer."""
    for pane in panes:
        expect(pane.locator("small")).to_contain_text(re.compile(r"\d (ms|s)"))
        expect(pane.locator(".final")).to_be_visible()


def shoot(page: Page, path: Path) -> None:
    """The page to its end, at most _TALLEST pixels, in 256 colours: a fifth of the bytes."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    page.wait_for_timeout(800)  # figures draw themselves in
    height = min(_TALLEST, page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)
    shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} kB")


@contextmanager
def app(quickstart: Path) -> Iterator[str]:
    """The app on the quickstart's two models, its run and its held-out questions; its address."""
    base, trained = (next(quickstart.glob(f"{run}/checkpoints/*/model")) for run in ("warmstart", "gpg"))
    words = ["--base", base, "--trained", trained, "--run", quickstart / "gpg"]
    words += ["--data", quickstart / "data" / "held_out", "--port", "0"]
    command = [sys.executable, "-m", "gpg_vl", "demo", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next((line for line in process.stderr if "gpg-vl demo: http" in line), "")
        if not told:
            raise SystemExit("the app did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or its log fills the pipe
        try:
            yield told.split()[2]
        finally:
            process.terminate()


def main() -> None:
    options = arguments()
    expect.set_options(timeout=1000 * _SECONDS)
    options.out.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with app(options.quickstart) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for width, theme, name in product(WIDTHS, THEMES, options.tabs):
            viewport = {"width": WIDTHS[width], "height": 900}
            page = browser.new_page(viewport=viewport, color_scheme=theme, reduced_motion="reduce")
            page.goto(address)
            TABS[name](page)
            shoot(page, options.out / f"demo_{name}_{width}_{theme}.png")
            page.close()
        browser.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("quickstart", type=Path, help="folder written by gpg-vl quickstart")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the PNG files")
    parser.add_argument("--tabs", nargs="*", choices=TABS, default=list(TABS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
