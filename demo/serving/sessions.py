"""Gradio's memory of sessions, in which a new one costs little."""

from copy import copy
from typing import Any

from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder


class Sessions(StateHolder):
    """A new session is a copy of the first.

    Gradio describes every component of the page for each, some ten milliseconds in which nobody else is
    served; each call of an API client is a session of its own.
    """

    def __init__(self, blocks: Blocks) -> None:
        gradios: Any = super()  # which says no types
        gradios.__init__()
        self.set_blocks(blocks)
        self._first = SessionState(blocks)

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = self._new()
        return super().__getitem__(session_id)

    def _new(self) -> SessionState:
        """As Gradio makes it; what it changes in a session is no part of the copy."""
        state = copy(self._first)
        state.blocks_config = copy(self._first.blocks_config)
        state.config_values = {
            key: config | {"props": dict(config["props"])} if "props" in config else dict(config)
            for key, config in self._first.config_values.items()
        }
        state.state_data, state._state_ttl = {}, {}
        return state
