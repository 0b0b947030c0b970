"""Links: what an address names, and what is refused."""

import asyncio

import gradio as gr
import pytest

from gpg_vl.demo import addresses
from gpg_vl.demo.links import Link, names_of
from gpg_vl.errors import ConfigurationError


def test_a_link_is_what_it_was_written_from():
    link = Link("rollouts", step=40, group=3, text="a & b=c", other="other run")
    assert link.query() == "tab=rollouts&search=a+%26+b%3Dc&step=40&group=3&with=other+run"
    query = {"tab": "rollouts", "search": "a & b=c", "step": "40", "group": "3", "with": "other run"}
    assert Link.read({**query, "__theme": "dark", "other": "ignored"}) == link
    assert Link.read({"tab": "", "q": ""}) == Link()


@pytest.mark.parametrize("value", ["-1", "1.5", "٣", "1e3", "9" * 5000, " 1", "x"])
def test_a_number_is_a_whole_number(value):
    with pytest.raises(ConfigurationError, match="q is a whole number") as raised:
        Link.read({"q": value})
    assert len(str(raised.value)) < 300


def test_long_values_and_unknown_tabs_are_refused():
    with pytest.raises(ConfigurationError, match="search has 201 characters; the most is 200"):
        Link.read({"search": "x" * 201})
    with pytest.raises(ConfigurationError, match=r"unknown tab 'compair'.*Did you mean 'compare'"):
        Link.read({"tab": "compair"})


def test_names_choose_among_what_is_offered():
    offered = ["All", "Fixed", "Both right"]
    assert Link(outcome="both RIGHT").choice("outcome", offered) == "Both right"
    assert Link().choice("outcome", offered) is None
    with pytest.raises(ConfigurationError, match="unknown with 'gone'; known: next"):
        Link(other="gone").choice("other", ["next"])


def test_sets_have_the_shortest_names_that_tell_them_apart():
    assert names_of(["/srv/runs/data/held_out"]) == {"held_out": "/srv/runs/data/held_out"}
    folders = ["/a/x/held_out", "/a/y/held_out", "train"]
    assert names_of(folders) == dict(zip(["x/held_out", "y/held_out", "train"], folders, strict=True))
    assert names_of(["b/held_out", "held_out", "."]) == {
        "b/held_out": "b/held_out",
        "held_out": "held_out",
        ".": ".",
    }


async def page_of(read):
    """A page with one tab; a coroutine, as Gradio leaves an event loop open where none runs."""
    with gr.Blocks() as page, addresses.tab("Math"):
        addresses.open_by_link(read, [gr.Textbox()])
    return page


def test_a_tab_is_filled_by_links_to_it_alone():
    """Others leave it as it is; so does a link that is wrong."""
    page = asyncio.run(page_of(lambda link: [f"question {link.q}"]))
    [opened] = [event.fn for event in page.fns.values() if event.name == "opened"]

    def of(**query: str) -> object:
        return opened(gr.Request(query_params=query))

    assert of(tab="math", q="7") == "question 7"  # one output takes the value itself
    assert of(tab="compare", q="7") == of() == gr.skip()
    with pytest.warns(UserWarning, match="q is a whole number, got 'seven'"):  # outside of a page
        assert of(tab="math", q="seven") == gr.skip()
