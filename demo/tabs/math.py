"""The tab where both models answer a question of mathematics; formulas are rendered."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpg_vl.types import Sample

from ..addresses import copy_link, link_questions
from ..parts.controls import (
    Decoding,
    PaneView,
    Picker,
    answer_fields,
    ask_and_stop,
    decoding,
    drawn,
    first_question,
    panes,
    picker,
)
from ..parts.latex import DELIMITERS, with_formulas
from ..parts.markup import block
from ..parts.pane import empty_pane
from ..reading import while_read
from ..service.asking import Asking, Fields
from ..service.samples import Place
from ..wiring import PRIVATE, QUEUED, client_of, page, readable_errors, wire_picker, wire_stop

_TYPED = Sample("typed", "typed", "", "", "math")


@dataclass(frozen=True)
class MathTab:
    """The components that the app wires."""

    picker: Picker
    place: gr.State
    question: gr.Textbox
    rendered: gr.Markdown
    answer_type: gr.Dropdown
    gold: gr.Textbox
    decoding: Decoding
    ask: gr.Button
    stop: gr.Button
    panes: list[PaneView]

    @property
    def cards(self) -> list[Any]:
        """What an answer fills in."""
        return [part for view in self.panes for part in (view.card, view.prompt)]


def math_tab(asking: Asking) -> MathTab:
    """Build the tab inside its `with gr.Tab(...)`."""
    sets = asking.sets
    folders = sets.folders(mathematics=True)
    first = first_question(sets, folders, _TYPED)
    place = gr.State(first.place)
    choosing = picker(sets, folders)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            question = gr.Textbox(
                first.sample.question,
                label="Question",
                info=r"Formulas stand between $…$, \(…\) or \[…\].",
                lines=5,
                max_lines=20,
                elem_id="math-question",
            )
            rendered = gr.Markdown(
                render(first.sample.question), latex_delimiters=DELIMITERS, elem_id="math-rendered"
            )
        with gr.Column(scale=5, min_width=320):
            kind, gold = answer_fields(first.sample)
            how = decoding(asking.settings)
            ask, stop = ask_and_stop(asking, "math-")
    views = panes(asking, mathematics=True)
    with gr.Row(elem_classes="share"):
        copy_link()
    tab = MathTab(choosing, place, question, rendered, kind, gold, how, ask, stop, views)
    _wire(asking, tab)
    return tab


def render(question: str) -> str:
    """The question with its formulas, in a frame."""
    return with_formulas(f'<article class="gpg card question">{block(question)}</article>')


def _wire(asking: Asking, tab: MathTab) -> None:
    blank = [part for view in tab.panes for part in (empty_pane(view.kind), "")]

    def fill(folder: str, task: str, number: int) -> list[Any]:
        place = asking.sets.place(folder, task, number)
        sample = asking.sets.sample(place)
        return [place, sample.question, sample.answer_type, sample.answer, *blank]

    fields = [tab.place, tab.question, tab.answer_type, tab.gold]
    tab.question.change(render, tab.question, tab.rendered, trigger_mode="always_last", **PRIVATE)
    wire_stop(asking, tab.stop)

    def answer(request: gr.Request, place: Place | None, *values: Any) -> Generator[list[Any], None, None]:
        question, kind, gold, *how = values
        fields = Fields(None, question, "", kind, gold, **drawn(*how))
        with readable_errors():
            for outcome in asking.outcomes(fields, place, client_of(request), mathematics=True):
                yield [part for view in tab.panes for part in view.show(outcome.panes[view.kind])]

    inputs = [*fields, *tab.decoding.inputs]
    triggers = [tab.ask.click, tab.question.submit]
    asked = gr.on(triggers, while_read(page(), answer), inputs, tab.cards, **QUEUED, **PRIVATE)
    wire_picker(asking, tab.picker, fill, [*fields, *tab.cards], asked)
    link_questions(asking.sets, tab.picker, fill, [*fields, *tab.cards])
