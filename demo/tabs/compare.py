"""The tab where both models answer a question about an image."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError
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
    hidden,
    in_words,
    numbered,
    panes,
    picker,
    unnumbered,
)
from ..parts.live import noted
from ..parts.markup import hint
from ..parts.pane import stored_pane
from ..parts.picture import picture_with_boxes
from ..parts.saving import comparison_page, saving_script
from ..parts.titles import TITLES
from ..service.asking import TYPED, Asking, Fields, Outcome
from ..service.evaluations import Evaluations, Selection
from ..service.layers import Layer, stored_layer, with_gold
from ..service.models import Kind
from ..service.samples import Place, PreparedSets
from ..service.uploads import Upload
from ..service.walking import Stored, opened
from ..wiring import (
    PRIVATE,
    RAW,
    client_of,
    message,
    readable_errors,
    wire_ask,
    wire_decoding,
    wire_picker,
    wire_stale,
    wire_stop,
)
from .walking import Strip, strip, wire_strip

_STORED = "Stored answers of the two evaluations"


@dataclass(frozen=True)
class CompareTab:
    """The components that the app wires."""

    asking: Asking
    evaluations: Evaluations
    picker: Picker
    place: gr.Textbox
    """Hidden: where the question comes from; empty for one that was typed, or about an upload."""
    before: gr.Textbox
    """Hidden: the place of the set's question that an upload took the place of."""
    image: gr.Image
    further: gr.Gallery
    question: gr.Textbox
    choices: gr.Textbox
    answer_type: gr.Dropdown
    gold: gr.Textbox
    decoding: Decoding
    ask: gr.Button
    stop: gr.Button
    strip: Strip
    stale: gr.HTML
    noted: gr.Textbox
    """Hidden: the fields that the answers are about; empty without answers."""
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
    def cleared(self) -> list[Any]:
        """What another question empties: see `emptied`."""
        return [*self.results, self.noted, self.strip.where]

    @property
    def emptied(self) -> list[Any]:
        """Values of `cleared`."""
        return [*(part for view in self.panes for part in view.empty), _hidden(), "", "", ""]

    @property
    def stored(self) -> list[Any]:
        """What a question of an evaluation fills in."""
        return [*self.picker.names, *self.fields, *self.results, self.noted, *self.strip.shown]

    def open(self, selection: object, session: str) -> list[Any]:
        """Values of `stored` for the question that a selection names; whatever runs for the visitor ends.

        selection: JSON of a `Selection`, as a page sent it. Raises a UserError if it is not there.
        """
        return self.show(opened(self.evaluations, Selection.from_json(selection)), session)

    def show(self, found: Stored, session: str) -> list[Any]:
        """Values of `stored` for a question of two evaluations; whatever runs for the visitor ends."""
        self.asking.stop(session)
        return stored_values(self.asking, found)


def stored_values(asking: Asking, found: Stored) -> list[Any]:
    """Values of `CompareTab.stored` for a question of two evaluations."""
    item = found.trained
    place = asking.sets.find_stored(item["id"], item["question"])
    filled = Filled(place, asking.sets.sample(place) if place else TYPED)
    text = [item["question"], "\n".join(item["choices"]), filled.sample.answer_type, item["gold"]]
    sent = asking.sets.sent(place)
    cards: list[str] = []
    boxes: dict[Kind, Layer] = {}
    for kind in asking.paths:
        answer, name = found.answers[kind]
        cards += [stored_pane(answer, kind, name), answer.get("prompt", "")]
        boxes[kind] = stored_layer(answer)
    drawing, how = _drawn(filled.sample, with_gold(filled.sample, boxes)), hint(_STORED)
    fields = [sent, filled.image, filled.further, *text]
    about = noted([sent, None, *text])  # the page knows the image by another name
    return [*_named(asking.sets, place), *fields, *cards, drawing, how, about, *Strip.values(found)]


def _named(sets: PreparedSets, place: Place | None) -> list[Any]:
    """Values of `Picker.names`; no number for a question that it does not offer."""
    if place is None or place.folder not in sets.folders(mathematics=False):
        return [gr.skip(), gr.skip(), unnumbered("Question")]
    folder, task, number = sets.named(place)
    count = sets.count(folder, task)
    return [folder, gr.update(choices=sets.tasks(folder), value=task), numbered(number, count)]


def compare_tab(asking: Asking, evaluations: Evaluations) -> CompareTab:
    """Build the tab inside its `with gr.Tab(...)`. evaluations: those that one steps through."""
    sets = asking.sets
    folders = sets.folders(mathematics=False)
    first = first_question(sets, folders, TYPED)
    place, before, about = hidden(sets.sent(first.place)), hidden(), hidden()
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="imagery"):
            choosing = picker(sets, folders)
            boxes = gr.HTML(visible=False, padding=False, elem_id="boxes")
            image, further = _images(first)
        with gr.Column(scale=6, min_width=320):
            question, choices, kind, gold = _question(first)
            how = decoding(asking.settings)
            ask, stop = ask_and_stop(asking)
    onward = strip(visible=evaluations.run is not None)
    stale = gr.HTML(padding=False, elem_classes="stale-line")
    views = panes(asking)
    how_drawn, save = _share()
    shown = (place, before, image, further, question, choices, kind, gold)
    results = (views, boxes, how_drawn)
    tab = CompareTab(asking, evaluations, choosing, *shown, how, ask, stop, onward, stale, about, *results)
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

    def fill(folder: str, task: str, number: int) -> list[Any]:
        return [*_filled(tab, asking.sets.place(folder, task, number)), *tab.emptied]

    wire_picker(asking, tab.picker, fill, [*tab.fields, *tab.cleared], tab.asked)
    link_questions(asking.sets, tab.picker, fill, [*tab.fields, *tab.cleared])
    wire_stop(asking, tab.stop)
    wire_decoding(tab.decoding)
    wire_strip(tab.evaluations, asking.settings.roots, tab.strip, tab.show, tab.stored, tab.asked)
    _wire_upload(tab)


def _filled(tab: CompareTab, place: Place) -> list[Any]:
    """Values of `CompareTab.fields`."""
    filled = Filled(place, tab.asking.sets.sample(place))
    return [tab.asking.sets.sent(place), filled.image, filled.further, *filled.text]


def _wire_upload(tab: CompareTab) -> None:
    """An image of one's own is about no question of a prepared set, and nobody knows the gold answer.

    Taking it away goes back to the set's question; taking the set's away makes room for an upload.
    """
    asking = tab.asking

    def changed(upload: Mapping[str, Any] | None, place: str, before: str, request: gr.Request) -> list[Any]:
        asking.stop(str(request.session_hash))
        with readable_errors(asking.settings.roots):
            back = asking.sets.placed(before) if upload is None and not place else None
        if back is not None:
            return [*_named(asking.sets, back), "", *_filled(tab, back), *tab.emptied]
        image, label = _own(upload, asking)
        typed = [gr.skip(), "", gr.skip(), ""]  # the question stays, its choices and gold answer do not
        names = [gr.skip(), gr.skip(), unnumbered(label)]
        return [*names, place or before, "", image, _hidden(), *typed, *tab.emptied]

    outputs = [*tab.picker.names, tab.before, *tab.fields, *tab.cleared]
    options = {**RAW, "cancels": [tab.asked], "trigger_mode": "always_last"}
    tab.image.input(changed, [tab.image, tab.place, tab.before], outputs, **options)


def _own(upload: Mapping[str, Any] | None, asking: Asking) -> tuple[Any, str]:
    """What becomes of the image's field, and what the number's field says."""
    if upload is None:
        return gr.skip(), "No image"
    try:
        Upload(upload, asking.settings.upload_pixels)
    except UserError as error:
        gr.Warning(message(error, asking.settings.roots))
        return None, "No image"
    return gr.skip(), "Your own image"


def _wire_ask(tab: CompareTab) -> Any:
    """The event that answers."""
    asking = tab.asking

    def answer(
        request: gr.Request, sent: str, image: Mapping[str, Any] | None, *values: Any
    ) -> Generator[list[Any], None, None]:
        question, choices, kind, gold, *how = values
        fields = Fields(image, question, choices, kind, gold, **drawn(*how))
        with readable_errors(asking.settings.roots):
            place = asking.sets.placed(sent)
            painted: Mapping[str, Layer] | None = None
            for outcome in asking.outcomes(fields, place, client_of(request)):
                yield [*_shown(tab.panes, outcome, painted), hint(in_words(fields))]
                painted = outcome.layers()

    about = [tab.place, tab.image, *tab.text]
    triggers = [tab.ask.click, tab.strip.again.click, tab.question.submit]
    wire_stale(triggers, tab.noted, about, tab.stale)
    inputs = [*about, *tab.decoding.inputs]
    return wire_ask(asking, triggers, answer, inputs, tab.results, tab.panes)


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
