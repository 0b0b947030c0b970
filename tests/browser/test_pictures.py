"""Boxes on the image in Compare, and the comparison as a file."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gpg_vl.data.images import open_image
from gpg_vl.report.drawing import COLORS
from tests.support.made import ANSWER, BOXED, HOSTILE
from tests.support.tabs import open_tab

from .test_compare import choose, pane, upload


@pytest.fixture
def page(page: Page) -> Page:
    """With Compare open."""
    open_tab(page, "Compare")
    expect(page.locator("#ask")).to_be_visible()
    return page


@pytest.fixture
def boxed(page: Page) -> Locator:
    """The picture with boxes, once both models have answered."""
    choose(page, "Prepared set", "boxes")
    expect(page.locator("#question textarea")).to_have_value(BOXED.question + " " + HOSTILE)
    page.locator("#ask").click()
    expect(pane(page, "trained").locator(".final")).to_have_text(ANSWER)
    expect(pane(page, "base").locator(".badge.wrong")).to_be_visible()
    return page.locator("#boxes .boxed")


def colors(picture: bytes) -> set[tuple[int, ...]]:
    image = open_image(picture, "the drawing").convert("RGB")
    return {color for _, color in image.getcolors(image.width * image.height)}


def rgb(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(COLORS[name][1:]))


def test_boxes_are_drawn_on_the_image(page, boxed):
    """Gold's and trained's, in pixels of the image, in place of the plain one; each can be switched off."""
    expect(page.locator("#image")).to_be_hidden()
    expect(boxed.locator("label")).to_contain_text(
        ["Gold: 1 box", "Base: no box", "Trained: IoU 0.", "Plain"]
    )
    line = boxed.locator("g.trained .line")
    width = BOXED.images[0].width
    box = [value / 1000 * width for value in (10, 20, 50, 60)]  # the model answers on a grid of 1000
    sides = [float(line.get_attribute(name)) for name in ("x", "y", "width", "height")]
    assert sides == pytest.approx(box)
    stage = boxed.locator(".stage")
    frame, drawn = stage.bounding_box(), line.bounding_box()
    scale = frame["width"] / width
    assert (drawn["x"] - frame["x"], drawn["width"]) == pytest.approx((box[0] * scale, box[2] * scale), abs=6)
    assert {rgb("gold"), rgb("trained")} <= colors(stage.screenshot())
    boxed.get_by_label("Trained").focus()
    page.keyboard.press("Space")
    found = colors(stage.screenshot())
    assert rgb("gold") in found and rgb("trained") not in found
    expect(pane(page, "trained").locator("details").first).to_contain_text(HOSTILE)


def test_the_plain_image_comes_back_to_be_replaced(page, boxed):
    boxed.get_by_label("Plain image").check()
    expect(page.locator("#image")).to_be_visible()
    expect(boxed.locator(".stage")).to_be_hidden()
    upload(page, 84, 84)
    expect(boxed).to_have_count(0)


def test_all_samples_have_their_boxes(page):
    choose(page, "Prepared set", "boxes")
    expect(page.locator("#question textarea")).to_have_value(BOXED.question + " " + HOSTILE)
    page.get_by_role("button", name="Sampling").locator("visible=true").click()
    page.get_by_label("Several samples").locator("visible=true").check()
    page.get_by_role("spinbutton", name="Temperature").locator("visible=true").fill("0.1")
    page.locator("#ask").click()
    expect(page.locator("#boxes label").filter(has_text="Trained")).to_contain_text("8 answers, 8 with boxes")
    titles = page.locator("#boxes g.trained title").all_text_contents()
    answers = [number for title in titles for number in re.findall(r"\d+", title.partition(" of 8")[0])]
    assert sorted(map(int, answers)) == list(range(1, 9))
    expect(page.locator("#boxes g.trained .strong")).to_have_count(1)


def test_a_comparison_is_saved_as_one_file(page, boxed, chromium: Browser, tmp_path: Path):
    """It opens without the app: image with boxes, both answers, verdicts, prompts; all text stays text."""
    with page.expect_download() as started:
        page.get_by_role("button", name="Save as HTML").locator("visible=true").click()
    file = tmp_path / "saved.html"
    started.value.save_as(file)
    assert started.value.suggested_filename == "comparison.html"
    text = file.read_text()
    assert "<script" not in text and "http://" not in text.replace("http-equiv", "")
    assert str(tmp_path.parent) not in text and "/tmp" not in text
    saved = chromium.new_page()
    loaded: list[str] = []
    saved.on("request", lambda request: loaded.append(request.url))
    saved.goto(file.as_uri())
    expect(saved.locator("h1")).to_have_text(f"{BOXED.question} {HOSTILE}")
    expect(saved.locator(".boxed g.trained .line")).to_have_count(1)
    expect(saved.locator(".back")).to_have_count(0)
    expect(saved.locator(".card.trained .final")).to_have_text(ANSWER)
    expect(saved.locator(".card.base .badge.wrong")).to_be_visible()
    expect(saved.get_by_text("Greedy, at most")).to_be_visible()
    saved.get_by_text("Prompt sent to trained").click()
    expect(saved.locator("[data-slot=prompt-trained]")).to_contain_text("<|im_start|>user")
    assert not [url for url in loaded if not url.startswith(("file:", "data:"))]
    saved.close()


def test_a_comparison_without_boxes_is_saved_with_its_image(page, chromium: Browser, tmp_path: Path):
    expect(page.locator("#image .image-frame img")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("button", name="Save as HTML").locator("visible=true").click()
    started.value.save_as(tmp_path / "saved.html")
    saved = chromium.new_page(color_scheme="dark")
    saved.goto((tmp_path / "saved.html").as_uri())
    image = saved.get_by_alt_text("Image of the question")
    expect(image).to_be_visible()
    assert image.evaluate("node => node.naturalWidth") > 10
    expect(saved.locator("[data-slot=prompt-base]")).to_be_hidden()  # nothing was asked
    saved.close()
