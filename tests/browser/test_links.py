"""Deep links: the page opens as its address says, and the address says what the page shows."""

from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.made import BOXED

from .conftest import PATIENCE


@pytest.fixture
def fresh(chromium: Browser, address: str):
    """Opens the page by a link."""
    window = chromium.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    window.set_default_timeout(PATIENCE)

    def opened(query: str) -> Page:
        window.goto(f"{address}/?{query}")
        expect(window.get_by_role("tab", name="Compare")).to_be_visible()
        return window

    yield opened
    window.context.close()


def named(page: Page) -> dict[str, str]:
    """What the address bar says."""
    return {name: value for name, [value] in parse_qs(urlparse(page.url).query).items()}


def shows(page: Page, **values: str) -> None:
    """The address comes to name exactly these."""
    for _ in range(100):
        if named(page) == values:
            return
        page.wait_for_timeout(100)
    assert named(page) == values


def test_a_link_opens_its_question(fresh):
    page = fresh("tab=compare&set=boxes&q=2&__theme=dark")
    expect(page.locator("#question textarea")).to_have_value(BOXED.question)
    expect(page.get_by_role("spinbutton", name="Question").locator("visible=true")).to_have_value("2")
    shows(page, tab="compare", set="boxes", task="boxes/Where", q="2", __theme="dark")


def test_the_address_follows_and_leads_back(fresh, scene_samples):
    """Choosing changes it; opened in another window, it shows the same question."""
    page = fresh("tab=compare&q=3")
    question = page.locator("#question textarea")
    expect(question).to_have_value(scene_samples[2].question)
    page.get_by_role("button", name="Next", exact=True).locator("visible=true").click()
    expect(question).to_have_value(scene_samples[3].question)
    before = named(page)
    shows(page, **{**before, "q": "4"})
    assert before["tab"] == "compare" and "/" not in before["set"]
    page.reload()
    expect(question).to_have_value(scene_samples[3].question)


@pytest.mark.parametrize("name", ["Math", "Benchmark", "Rollouts", "Training"])
def test_a_link_opens_its_tab(fresh, name):
    page = fresh(f"tab={name.lower()}")
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("tab=nope", "unknown tab 'nope'"),
        ("tab=compare&set=%3Cimg%20src=x%3E&q=2", "unknown set '<img src=x>'"),
        ("tab=compare&set=boxes&q=900", "there is no 900"),
        ("tab=compare&q=-1", "q is a whole number"),
        ("tab=rollouts&scope=some", "unknown scope 'some'"),
    ],
)
def test_a_wrong_link_opens_the_page_and_says_why(fresh, query, reason):
    page = fresh(query)
    expect(page.get_by_test_id("toast-body")).to_contain_text(reason)
    expect(page.get_by_test_id("toast-body")).to_have_count(1)
    expect(page.get_by_role("tabpanel")).to_be_visible()
    assert page.locator("img[src='x']").count() == 0


def test_a_link_restores_a_search_of_all_steps(fresh):
    page = fresh("tab=rollouts&search=(b)&scope=all&step=1&group=1")
    expect(page.get_by_text("2 groups with '(b)'.")).to_be_visible()
    expect(page.get_by_role("radio", name="All steps")).to_be_checked()
    expect(page.get_by_role("spinbutton", name="Step")).to_have_value("1")
    shows(page, tab="rollouts", search="(b)", scope="all", step="1", group="1")
    page.get_by_role("radio", name="This step").check()
    shows(page, tab="rollouts", search="(b)", step="1", group="1")


def test_a_link_is_copied(fresh):
    page = fresh("tab=compare&set=boxes&q=2&__theme=dark")
    expect(page.locator("#question textarea")).to_have_value(BOXED.question)
    shows(page, tab="compare", set="boxes", task="boxes/Where", q="2", __theme="dark")
    page.get_by_role("button", name="Copy link").locator("visible=true").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlparse(copied).query) == {
        "tab": ["compare"],
        "set": ["boxes"],
        "task": ["boxes/Where"],
        "q": ["2"],
    }
    expect(page.get_by_role("button", name="Copy link").locator("visible=true")).to_be_visible()


def test_curves_open_over_those_of_no_other_run_and_of_the_link_s(fresh):
    """One field is filled in, and Gradio would take a list for its value."""
    page = fresh("tab=training")
    expect(page.get_by_text("own: step 5")).to_be_visible()
    assert page.get_by_text("There is no run").count() == 0
    shows(page, tab="training")
    page = fresh("tab=training&with=other")
    expect(page.get_by_role("combobox", name="Compare with the run")).to_have_value("other")
    shows(page, tab="training", **{"with": "other"})


def test_a_link_s_evaluations_hold_beside_a_filter(fresh):
    """What paints first, before the link is read, chooses no others."""
    named = {"tab": "benchmark", "base": "step_000001", "trained": "step_000000", "outcome": "Broken"}
    page = fresh("&".join(f"{name}={value}" for name, value in named.items()))
    expect(page.locator("#questions .row .badge").first).to_have_text("Broken")
    page.wait_for_timeout(1500)
    shows(page, **named)
