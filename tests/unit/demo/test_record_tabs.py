"""The record tabs without records."""

import asyncio

import gradio as gr
import pytest

from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.tabs.rollouts import rollouts_tab
from gpg_vl.demo.tabs.training import training_tab


async def page_of(tab):
    """A page with the tab alone; a coroutine, as Gradio leaves an event loop open where none runs."""
    with gr.Blocks() as page:
        tab(DemoSettings(base="base"))
    return page


@pytest.mark.parametrize("tab", [rollouts_tab, training_tab])
def test_without_a_run_a_tab_says_what_to_pass(tab):
    page = asyncio.run(page_of(tab))
    [message] = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert "--run" in message
    assert not page.fns
