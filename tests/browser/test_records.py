"""Rollouts, Training and Math in a browser; and every tab on a phone."""

import pytest
from playwright.sync_api import expect

from tests.support.made import HOSTILE
from tests.support.tabs import open_tab

TABS = ("Overview", "Compare", "Math", "Benchmark", "Rollouts", "Training")

CUT = """() => [...document.querySelectorAll(".main *")].filter(node => {
  const scrolls = part => getComputedStyle(part).overflowX !== "visible"
  for (let part = node.parentElement; !part.matches(".main"); part = part.parentElement)
    if (scrolls(part)) return false
  return node.getBoundingClientRect().right > innerWidth
}).map(node => node.outerHTML.slice(0, 200))"""
"""What stands out to the right; not what scrolls within its frame, such as a wide table."""


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


FORMULA = (
    r"$\text{abc} \frac{1}{2} \sqrt{x} \overline{y} \boxed{z} \hat{a} \begin{pmatrix}a\\c\end{pmatrix}"
    r" \left(\sum_{i=1}^n x_i\right) \mathbb{R} \operatorname{final} \underbrace{a+b}_{n} \color{red}{x}$"
)
CLASSES = """() => {
  const ours = new Set()
  for (const sheet of document.styleSheets)
    for (const rule of sheet.cssRules)
      if (rule.selectorText?.includes(".gpg"))
        for (const part of rule.selectorText.split(","))
          ours.add(part.trim().split(/[\\s>+~]+/).pop().match(/\\.([\\w-]+)/)?.[1])
  const theirs = new Set([...document.querySelectorAll(".katex *")].flatMap(node => [...node.classList]))
  return [...ours].filter(name => theirs.has(name))
}"""
"""Classes that a rule of ours asks for first and that KaTeX gives to parts of a formula."""
LETTERS = """node => {
  const range = document.createRange()
  const text = document.createTreeWalker(node, NodeFilter.SHOW_TEXT).nextNode()
  return [...text.data].map((_, at) => {
    range.setStart(text, at); range.setEnd(text, at + 1)
    const box = range.getBoundingClientRect()
    return [box.left, box.top]
  })
}"""


def test_words_in_formulas_stand_in_a_line(page):
    r"""No style of ours reaches into KaTeX, whose `\text` and `\tag` have classes of these names."""
    open_tab(page, "Math")
    page.locator("#math-question textarea").fill(rf"{FORMULA} and $$\text{{abc}}\tag{{1}}$$")
    words = page.locator("#math-rendered .katex-html .text", has_text="abc").first
    expect(words).to_be_visible()
    places = words.locator("xpath=descendant-or-self::*[text()]").first.evaluate(LETTERS)
    lefts, tops = zip(*places, strict=True)
    assert len(lefts) == 3 and lefts[0] < lefts[1] < lefts[2] and max(tops) - min(tops) < 1
    assert page.evaluate(CLASSES) == []
