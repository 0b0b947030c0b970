"""Rollouts, Training and Math in a browser; and every tab on a phone."""

import pytest
from playwright.sync_api import Page, expect

from tests.support.made import HOSTILE

TABS = ("Overview", "Compare", "Math", "Benchmark", "Rollouts", "Training")

CUT = """() => [...document.querySelectorAll(".main *")].filter(node => {
  const scrolls = part => getComputedStyle(part).overflowX !== "visible"
  for (let part = node.parentElement; !part.matches(".main"); part = part.parentElement)
    if (scrolls(part)) return false
  return node.getBoundingClientRect().right > innerWidth
}).map(node => node.outerHTML.slice(0, 200))"""
"""What stands out to the right; not what scrolls within its frame, such as a wide table."""


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()




def test_formulas_are_rendered_and_markup_is_not(page):
    open_tab(page, "Math")
    page.locator("#math-question textarea").fill(
        rf"What is $\frac{{1}}{{2}}$? {HOSTILE} $\href{{javascript:alert(3)}}{{x}}$"
    )
    rendered = page.locator("#math-rendered")
    expect(rendered.locator(".mfrac").first).to_be_visible()
    expect(rendered).to_contain_text(HOSTILE)
    expect(rendered.locator("a")).to_have_count(0)
    page.locator("#math-ask").click()
    expect(page.locator("#math-trained small")).to_contain_text("token")
    expect(page.locator("#math-trained details").first).to_be_attached()


@pytest.mark.parametrize("name", TABS)
def test_no_tab_scrolls_sideways_on_a_phone(page, name):
    page.set_viewport_size({"width": 390, "height": 800})
    open_tab(page, name)  # none is folded away
    expect(page.get_by_role("tabpanel")).to_be_visible()
    page.wait_for_timeout(500)  # figures find their width
    assert page.evaluate(CUT) == []
