"""Sessions of a page: each as Gradio makes it, and apart from the others."""

import asyncio

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from gpg_vl.demo.serving.sessions import Sessions


@pytest.fixture
def blocks() -> gr.Blocks:
    """Built within an event loop: elsewhere, Gradio opens one that it never closes."""
    return asyncio.run(_built())


async def _built() -> gr.Blocks:
    with gr.Blocks() as blocks:
        gr.Textbox("before", label="text")
        gr.State([1])
        gr.Dropdown(["a", "b"], value="a")
    return blocks


def test_a_session_is_what_gradio_makes(blocks):
    ours, gradios = Sessions(blocks)["anna"], SessionState(blocks)
    assert vars(ours).keys() == vars(gradios).keys()
    assert ours.config_values == gradios.config_values
    assert vars(ours.blocks_config).keys() == vars(gradios.blocks_config).keys()
    assert ours.blocks_config.blocks == gradios.blocks_config.blocks


def test_what_a_session_changes_no_other_sees(blocks):
    sessions = Sessions(blocks)
    keys = {type(block): key for key, block in blocks.blocks.items()}
    text, state = keys[gr.Textbox], keys[gr.State]
    anna = sessions["anna"]
    anna._update_value_in_config(text, "after")
    anna[state].append(2)
    anna[text] = gr.Textbox("another", render=False)
    for other in (sessions["bert"], sessions["anna2"]):
        assert other.config_values[text]["props"]["value"] == "before"
        assert other[state] == [1] and other[text] is blocks.blocks[text]
    assert sessions["anna"] is anna and anna[state] == [1, 2] and "anna" in sessions


def test_a_new_session_describes_no_component_anew(blocks, monkeypatch):
    sessions = Sessions(blocks)
    monkeypatch.setattr(gr.Textbox, "get_config", None)
    assert sessions["anna"].config_values
