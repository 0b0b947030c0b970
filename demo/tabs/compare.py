"""The tab where both models answer a question about an image."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError
from gpg_vl.runs.files import Item
from gpg_vl.types import Sample

from ..addresses import copy_link, link_questions
from ..parts.controls import (
    Decoding,
    Filled,
    PaneView,
    Picker,
    answer_fields,
    ask_and_stop,
    decoding,
    drawn,
    first_question,
    in_words,
    panes,
    picker,
)
from ..parts.markup import answer_card, hint, shown_item
from ..parts.pane import TITLES, empty_pane
from ..parts.picture import picture_with_boxes
from ..parts.saving import comparison_page, saving_script
from ..reading import while_read
from ..service.asking import TYPED, Asking, Fields, Outcome, stored_place
from ..service.layers import Layer, stored_layer, with_gold
from ..service.models import Kind
from ..service.samples import Place, PreparedSets
from ..service.uploads import Upload
from ..wiring import PRIVATE, QUEUED, client_of, message, page, readable_errors, wire_picker, wire_stop

_STORED = "Stored answers of the two evaluations"


@dataclass(frozen=True)
class CompareTab:
    """The components that the app wires."""

    asking: Asking
    picker: Picker
    place: gr.State
    """Where the question in the fields comes from; None for one that was typed, or about an upload."""
    image: gr.Image
    further: gr.Gallery
    question: gr.Textbox
    choices: gr.Textbox
    answer_type: gr.Dropdown
    gold: gr.Textbox
    decoding: Decoding
    ask: gr.Button
    stop: gr.Button
    panes: list[PaneView]
    boxes: gr.HTML
    """The image with boxes over it, in place of the plain one."""
    how: gr.HTML
    """How the answers that are shown were drawn."""
    asked: Any = None
    """The event that answers."""

    @property
    def fields(self) -> list[Any]:
        """What a question of a prepared set fills in."""
        return [self.place, self.image, self.further, *self.text]

    @property
    def text(self) -> list[Any]:
        return [self.question, self.choices, self.answer_type, self.gold]

    @property
    def results(self) -> list[Any]:
        """What an answer fills in."""
        return [*(part for view in self.panes for part in (view.card, view.prompt)), self.boxes, self.how]

    @property
    def stored(self) -> list[Any]:
        """What a question of an evaluation fills in."""
        return [*self.picker.names, *self.fields, *self.results]

    def show_stored(self, opened: Mapping[str, Any] | None) -> list[Any]:
        """Updates of `stored` for a question of an evaluation with both stored answers.

        opened: `item`, `base` and `trained`, Items of gpg_vl/runs/files.py; None changes nothing.
        """
        if opened is None:
            return [gr.skip()] * len(self.stored)
        return stored_values(self.asking, opened)


def stored_values(asking: Asking, opened: Mapping[str, Any]) -> list[Any]:
    """Values of `CompareTab.stored` for a question of an evaluation; see `show_stored`."""
    item: Item = opened["item"]
    place = stored_place(asking.sets, item)
    filled = Filled(place, asking.sets.sample(place) if place else TYPED)
    text = [item["question"], "\n".join(item["choices"]), filled.sample.answer_type, item["gold"]]
    cards: list[str] = []
    boxes: dict[Kind, Layer] = {}
    for kind in asking.paths:
        answer: Item = opened[kind]
        cards += [answer_card(shown_item(answer, TITLES[kind], kind)), answer.get("prompt", "")]
        boxes[kind] = stored_layer(answer)
    drawing, how = _drawn(filled.sample, with_gold(filled.sample, boxes)), hint(_STORED)
    return [*_named(asking.sets, place), place, filled.image, filled.further, *text, *cards, drawing, how]


def _named(sets: PreparedSets, place: Place | None) -> list[Any]:
    """Values of `Picker.names`; no number for a question that it does not offer."""
    if place is None or place.folder not in sets.folders(mathematics=False):
        return [gr.skip(), gr.skip(), None]
    folder, task, number = sets.named(place)
    return [folder, gr.update(choices=sets.tasks(folder), value=task), number]


def compare_tab(asking: Asking) -> CompareTab:
    """Build the tab inside its `with gr.Tab(...)`."""
    sets = asking.sets
    folders = sets.folders(mathematics=False)
    first = first_question(sets, folders, TYPED)
    place = gr.State(first.place)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="imagery"):
            choosing = picker(sets, folders)
            boxes = gr.HTML(visible=False, padding=False, elem_id="boxes")
            image, further = _images(first)
        with gr.Column(scale=6, min_width=320):
            question, choices, kind, gold = _question(first)
            how = decoding(asking.settings)
            ask, stop = ask_and_stop(asking)
    views = panes(asking)
    how_drawn, save = _share()
    fields = (question, choices, kind, gold)
    tab = CompareTab(
        asking, choosing, place, image, further, *fields, how, ask, stop, views, boxes, how_drawn
    )
    tab = replace(tab, asked=_wire_ask(tab))
    _wire(tab)
    _wire_save(tab, save)
    return tab


def _share() -> tuple[gr.HTML, gr.Button]:
    """How the answers were drawn, and buttons that take the comparison elsewhere."""
    with gr.Row(elem_classes="share"):
        how = gr.HTML(padding=False, min_width=200, elem_id="how")
        save = gr.Button("Save as HTML", size="sm", min_width=120, scale=0)
        copy_link()
    return how, save


def _images(first: Filled) -> tuple[gr.Image, gr.Gallery]:
    image = gr.Image(
        first.image,
        type="filepath",
        format="png",
        sources=["upload", "clipboard"],
        label="Image",
        height=320,
        buttons=["fullscreen"],
        elem_id="image",
    )
    several = len(first.sample.images) > 1
    further = gr.Gallery(
        list(first.sample.images) if several else None,
        label="All images of this question; both models see them",
        visible=several,
        height=200,
        interactive=False,
        format="png",
        buttons=[],
    )
    return image, further


def _question(first: Filled) -> tuple[gr.Textbox, gr.Textbox, gr.Dropdown, gr.Textbox]:
    sample = first.sample
    question = gr.Textbox(sample.question, label="Question", lines=3, max_lines=12, elem_id="question")
    choices = gr.Textbox(
        "\n".join(sample.choices),
        label="Choices",
        info="One a line; they become (A), (B), …",
        lines=3,
        max_lines=12,
        elem_id="choices",
    )
    kind, gold = answer_fields(sample)
    return question, choices, kind, gold


def _wire(tab: CompareTab) -> None:
    asking = tab.asking
    blank = [part for view in tab.panes for part in (empty_pane(view.kind), "")]

    def fill(folder: str, task: str, number: int) -> list[Any]:
        place = asking.sets.place(folder, task, number)
        filled = Filled(place, asking.sets.sample(place))
        return [place, filled.image, filled.further, *filled.text, *blank, _hidden(), ""]

    wire_picker(asking, tab.picker, fill, [*tab.fields, *tab.results], tab.asked)
    link_questions(asking.sets, tab.picker, fill, [*tab.fields, *tab.results])
    wire_stop(asking, tab.stop)
    _wire_upload(tab)


def _wire_upload(tab: CompareTab) -> None:
    """An image of one's own is about no question of a prepared set, and nobody knows the gold answer."""

    def own(upload: Mapping[str, Any] | None) -> list[Any]:
        forgotten = [None, _hidden(), "", _hidden()]
        try:
            if upload is not None:
                Upload(upload, tab.asking.settings.upload_pixels)
        except UserError as error:
            gr.Warning(message(error))
            return [None, *forgotten]
        return [gr.skip(), *forgotten]

    changed = [tab.image, tab.place, tab.further, tab.gold, tab.boxes]
    options = {**PRIVATE, "cancels": [tab.asked], "trigger_mode": "always_last"}
    tab.image.input(own, tab.image, changed, preprocess=False, **options)


def _wire_ask(tab: CompareTab) -> Any:
    """The event that answers."""

    def answer(
        request: gr.Request, place: Place | None, image: Mapping[str, Any] | None, *values: Any
    ) -> Generator[list[Any], None, None]:
        question, choices, kind, gold, *how = values
        fields = Fields(image, question, choices, kind, gold, **drawn(*how))
        with readable_errors():
            painted: Mapping[str, Layer] | None = None
            for outcome in tab.asking.outcomes(fields, place, client_of(request)):
                yield [*_shown(tab.panes, outcome, painted), hint(in_words(fields))]
                painted = outcome.layers()

    inputs = [tab.place, tab.image, *tab.text, *tab.decoding.inputs]
    triggers = [tab.ask.click, tab.question.submit]
    return gr.on(triggers, while_read(page(), answer), inputs, tab.results, **QUEUED, **PRIVATE)


def _wire_save(tab: CompareTab, save: gr.Button) -> None:
    shown = {"question": tab.question, "choices": tab.choices, "gold": tab.gold, "how": tab.how}
    pictures = {"image": tab.image, "further": tab.further, "boxes": tab.boxes}
    cards = {f"card-{view.kind}": view.card for view in tab.panes}
    prompts = {f"prompt-{view.kind}": view.prompt for view in tab.panes}
    inputs = {**shown, **pictures, **cards, **prompts}
    saved = comparison_page({view.kind: TITLES[view.kind] for view in tab.panes})
    save.click(None, list(inputs.values()), None, js=saving_script(saved, list(inputs)), **PRIVATE)


def _shown(views: list[PaneView], outcome: Outcome, painted: Mapping[str, Layer] | None) -> list[Any]:
    """Values of `CompareTab.results` but the last; boxes that are `painted` already stay as they are."""
    parts = [part for view in views for part in view.show(outcome.panes[view.kind])]
    layers = outcome.layers()
    return [*parts, gr.skip() if layers == painted else _drawn(outcome.sample, layers)]


def _drawn(sample: Sample, layers: Mapping[str, Layer]) -> Any:
    """The picture with boxes; it hides where there are none."""
    if not layers:
        return _hidden()
    picture = picture_with_boxes(sample.images[0], layers, sample.question, replaceable=True)
    return gr.update(value=picture, visible=True)


def _hidden() -> Any:
    return gr.update(value=None, visible=False)
