"""The strip above Compare's panes: on to the next question of a list of stored answers, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..parts.controls import hidden
from ..parts.markup import hint
from ..service.evaluations import BROKEN, FIXED, Evaluations, Selection
from ..service.walking import Stored, following
from ..wiring import RAW, readable_errors

_SMALL: dict[str, Any] = {"size": "md", "min_width": 90, "scale": 0}


@dataclass(frozen=True)
class Strip:
    """Its components."""

    selection: gr.Textbox
    """Hidden: JSON of the Selection whose question was last shown."""
    where: gr.HTML
    fixed: gr.Button
    broken: gr.Button
    listed: gr.Button
    """Onward in a list of another outcome."""
    back: gr.Button
    again: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What a stored question fills in, in the order of `values`."""
        return [self.selection, self.where, self.listed, self.back]

    @staticmethod
    def values(stored: Stored) -> list[Any]:
        """Values of `shown` for a question that was opened from a list or stepped to."""
        other = stored.selection.outcome not in (FIXED, BROKEN)
        return [
            stored.selection.to_json(),
            hint(stored.where),
            gr.update(visible=other),
            gr.update(visible=True),
        ]


def strip(*, visible: bool) -> Strip:
    """The strip, which is for runs."""
    with gr.Row(visible=visible, elem_classes="strip", equal_height=True):
        fixed = gr.Button("Next fixed", elem_id="next-fixed", **_SMALL)
        broken = gr.Button("Next broken", elem_id="next-broken", **_SMALL)
        listed = gr.Button("Next in the list", visible=False, elem_id="next-listed", **_SMALL)
        where = gr.HTML(padding=False, elem_id="where", elem_classes="where")
        again = gr.Button("Ask again", elem_id="again", elem_classes="again", **_SMALL)
        back = gr.Button("Back to the list", visible=False, elem_id="back", **_SMALL)
    return Strip(hidden(), where, fixed, broken, listed, back, again)


def wire_strip(
    evaluations: Evaluations,
    roots: Sequence[str],
    own: Strip,
    show: Callable[[Stored, str], list[Any]],
    outputs: list[Any],
    asked: Any,
) -> None:
    """Step through the list.

    roots: see `for_page`. show: from a stored question and the visitor's session to values of `outputs`.
    asked: the event that answers, which ends.
    """

    def onward(outcome: str | None) -> Callable[..., list[Any]]:
        def step(sent: str, request: gr.Request) -> list[Any]:
            with readable_errors(roots):
                selection = Selection.from_json(sent)
                found = following(evaluations, selection, outcome or selection.outcome)
                return show(found, str(request.session_hash))

        return step

    for button, outcome in ((own.fixed, FIXED), (own.broken, BROKEN), (own.listed, None)):
        button.click(onward(outcome), own.selection, outputs, cancels=[asked], **RAW)
