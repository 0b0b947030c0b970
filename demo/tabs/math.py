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
    hidden,
    panes,
    picker,
)
from ..parts.latex import DELIMITERS, with_formulas
from ..parts.markup import block
from ..service.asking import Asking, Fields
from ..wiring import (
    PRIVATE,
    client_of,
    readable_errors,
    wire_ask,
    wire_decoding,
    wire_picker,
    wire_stale,
    wire_stop,
)

_TYPED = Sample("typed", "typed", "", "", "math")


@dataclass(frozen=True)
class _Tab:
    """Its components."""

    picker: Picker
    place: gr.Textbox
    """Hidden: where the question comes from; empty for one that was typed."""
    question: gr.Textbox
    rendered: gr.Markdown
    answer_type: gr.Dropdown
    gold: gr.Textbox
    decoding: Decoding
    ask: gr.Button
    stop: gr.Button
    stale: gr.HTML
    noted: gr.Textbox
    """Hidden: the fields that the answers are about; empty without answers."""
    panes: list[PaneView]

    @property
    def fields(self) -> list[Any]:
        """What a question of a prepared set fills in."""
        return [self.place, self.question, self.answer_type, self.gold]

    @property
    def cards(self) -> list[Any]:
        """What an answer fills in."""
        return [part for view in self.panes for part in (view.card, view.prompt)]


def math_tab(asking: Asking) -> None:
    """Build the tab inside its `with gr.Tab(...)`."""
    sets = asking.sets
    folders = sets.folders(mathematics=True)
    first = first_question(sets, folders, _TYPED)
    place, about = hidden(sets.sent(first.place)), hidden()
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
    stale = gr.HTML(padding=False, elem_classes="stale-line")
    views = panes(asking, mathematics=True)
    with gr.Row(elem_classes="share"):
        copy_link()
    tab = _Tab(choosing, place, question, rendered, kind, gold, how, ask, stop, stale, about, views)
    _wire(asking, tab)


def render(question: str) -> str:
    """The question with its formulas, in a frame."""
    return with_formulas(f'<article class="gpg card question">{block(question)}</article>')


def _wire(asking: Asking, tab: _Tab) -> None:
    blank = [*(part for view in tab.panes for part in view.empty), ""]

    def fill(folder: str, task: str, number: int) -> list[Any]:
        place = asking.sets.place(folder, task, number)
        sample = asking.sets.sample(place)
        return [asking.sets.sent(place), sample.question, sample.answer_type, sample.answer, *blank]

    tab.question.change(render, tab.question, tab.rendered, trigger_mode="always_last", **PRIVATE)
    wire_stop(asking, tab.stop)
    wire_decoding(tab.decoding)
    wire_picker(asking, tab.picker, fill, [*tab.fields, *tab.cards, tab.noted], _wire_ask(asking, tab))

    link_questions(asking.sets, tab.picker, fill, [*tab.fields, *tab.cards, tab.noted])


def _wire_ask(asking: Asking, tab: _Tab) -> Any:
    """The event that answers."""

    def answer(request: gr.Request, sent: str, *values: Any) -> Generator[list[Any], None, None]:
        question, kind, gold, *how = values
        fields = Fields(None, question, "", kind, gold, **drawn(*how))
        with readable_errors(asking.settings.roots):
            place = asking.sets.placed(sent)
            for outcome in asking.outcomes(fields, place, client_of(request), mathematics=True):
                yield [part for view in tab.panes for part in view.show(outcome.panes[view.kind])]

    triggers = [tab.ask.click, tab.question.submit]
    wire_stale(triggers, tab.noted, tab.fields, tab.stale)
    return wire_ask(asking, triggers, answer, [*tab.fields, *tab.decoding.inputs], tab.cards, tab.panes)
