"""What both asking tabs are made of: choosing a question, drawing answers, two panes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from gpg_vl.types import Sample

from ..links import names_of
from ..service.asking import ANSWER_TYPES, Asking, Fields, Pane
from ..service.generate import Progress
from ..service.models import Kind
from ..service.samples import Place, PreparedSets
from ..service.settings import DemoSettings
from .latex import DELIMITERS, with_formulas
from .pane import Head, empty_pane, head_of, pane
from .titles import TITLES, title_of

GREEDY, SAMPLED = "Greedy", "Several samples"


@dataclass(frozen=True)
class Picker:
    """Chooses a question of a prepared set."""

    folder: gr.Dropdown
    task: gr.Dropdown
    number: gr.Number
    before: gr.Button
    after: gr.Button
    any: gr.Button
    turn: gr.Textbox
    """Hidden; it changes whenever a question is chosen."""

    @property
    def names(self) -> list[Any]:
        """What names a question: set, task and number in it."""
        return [self.folder, self.task, self.number]


def hidden(value: str = "", elem_id: str | None = None) -> gr.Textbox:
    """What the page knows and nobody sees: the browser keeps it, and sends it with each event."""
    return gr.Textbox(value, visible="hidden", elem_id=elem_id)


def picker(sets: PreparedSets, folders: Sequence[str]) -> Picker:
    """Set, task and number; hidden where there is no set."""
    folder = folders[0] if folders else None
    tasks = sets.tasks(folder) if folder else []
    labels = list(names_of(folders).items())
    with gr.Row(visible=bool(folders), elem_classes="picker"):
        chosen = gr.Dropdown(labels, value=folder, label="Prepared set", visible=len(folders) > 1)
        task = gr.Dropdown(tasks, value=tasks[0] if tasks else None, label="Task", min_width=150)
        count = sets.count(folder, tasks[0]) if folder else 1
        number = gr.Number(1, precision=0, minimum=1, min_width=130, label=_label(1, count), maximum=count)
        with gr.Row(elem_classes="steps"):
            before = gr.Button("Previous", size="md", min_width=80)
            after = gr.Button("Next", size="md", min_width=60)
            any_one = gr.Button("Random", size="md", min_width=70)
    return Picker(chosen, task, number, before, after, any_one, hidden())


def _label(number: int, count: int) -> str:
    return f"Question {number:,} of {count:,}"


def numbered(number: int, count: int, *, typed: bool = False) -> Any:
    """The number's field at a question of a task; what is being `typed` stays, or a digit is lost."""
    bounded = min(max(1, number), count)
    said: dict[str, Any] = {"label": _label(bounded, count), "maximum": count}
    return gr.update(**said) if typed and bounded == number else gr.update(**said, value=bounded)


def unnumbered(label: str) -> Any:
    """The number's field at a question that is none of a set."""
    return gr.update(label=label, value=None)


def step(sets: PreparedSets, folder: str, task: str, number: float | None, by: int | None) -> int:
    """The number of the question `by` further on, round at the ends; a random one for None.

    Without a number, one further is the first question, and one back the last.
    """
    count = sets.count(folder, task)
    if by is None:
        return random.randint(1, count)
    here = int(number) if number else int(by < 0)
    return (here - 1 + by) % count + 1


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    mode: gr.Radio
    samples: gr.Slider
    temperature: gr.Slider
    max_new_tokens: gr.Slider
    seed: gr.Number

    @property
    def inputs(self) -> list[Any]:
        """In the order that `drawn` takes them."""
        return [self.mode, self.samples, self.temperature, self.max_new_tokens, self.seed]


def decoding(settings: DemoSettings) -> Decoding:
    """Greedy, or several samples at a temperature."""
    with gr.Accordion("Sampling", open=False):
        mode = gr.Radio([GREEDY, SAMPLED], value=GREEDY, label="Decoding", show_label=False)
        with gr.Row():
            most = settings.max_samples
            only_sampled: dict[str, Any] = {"min_width": 140, "interactive": False}
            samples = gr.Slider(1, most, min(8, most), step=1, label="Answers", **only_sampled)
            temperature = gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Temperature", **only_sampled)
        with gr.Row():
            longest = settings.max_new_tokens
            length = gr.Slider(1, longest, min(512, longest), step=1, label="Most new tokens", min_width=140)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=140)
    return Decoding(mode, samples, temperature, length, seed)


def drawn(mode: str, *numbers: float | None) -> dict[str, Any]:
    """The fields of an `Ask` from `Decoding.inputs`."""
    samples, temperature, max_new_tokens, seed = numbers
    greedy = {"samples": 1, "temperature": 0.0} if mode == GREEDY else {}
    fields = {"samples": samples, "temperature": temperature}
    return {**fields, "max_new_tokens": max_new_tokens, "seed": seed, **greedy}


def in_words(fields: Fields) -> str:
    """How answers are drawn, in a line."""
    longest = f"at most {fields.max_new_tokens} new tokens, seed {fields.seed}"
    if not fields.temperature:
        return f"Greedy, {longest}"
    return f"{fields.samples} answers at temperature {fields.temperature:g}, {longest}"


def ask_and_stop(asking: Asking, prefix: str = "") -> tuple[gr.Button, gr.Button]:
    """The buttons that start and end answers; the second one is there while a model is at work."""
    with gr.Row():
        label = "Ask both" if len(asking.paths) > 1 else "Ask"
        ask = gr.Button(label, variant="primary", scale=3, elem_id=f"{prefix}ask")
        stop = gr.Button(
            "Stop", variant="stop", scale=1, min_width=90, elem_id=f"{prefix}stop", elem_classes="stop-asking"
        )
    return ask, stop


@dataclass(frozen=True)
class PaneView:
    """The components of one model's pane."""

    head: Head
    card: gr.HTML | gr.Markdown
    prompt: gr.Textbox
    mathematics: bool

    @property
    def kind(self) -> Kind:
        """Which model's pane it is."""
        return self.head.kind

    @property
    def empty(self) -> list[str]:
        """Values of `card` and `prompt` before anything was asked."""
        return [empty_pane(self.head), ""]

    @property
    def waiting(self) -> str:
        """The card while the request is on its way."""
        return self._card(Pane(Progress("waiting")))

    def show(self, found: Pane) -> list[Any]:
        """What `card` and `prompt` show at this moment."""
        return [self._card(found), found.progress.prompt]

    def _card(self, found: Pane) -> str:
        card = pane(found, self.head, mathematics=self.mathematics)
        return with_formulas(card) if self.mathematics else card


def panes(asking: Asking, *, mathematics: bool = False) -> list[PaneView]:
    """One pane a model, beside each other where there is room."""
    views = []
    with gr.Row(equal_height=False, elem_classes="panes"):
        for kind, path in asking.paths.items():
            with gr.Column(min_width=320):
                views.append(_pane_view(head_of(kind, path, asking.settings.roots), path, mathematics))
    return views


def _pane_view(head: Head, path: str, mathematics: bool) -> PaneView:
    name = f"{'math' if mathematics else 'compare'}-{head.kind}"
    card: gr.HTML | gr.Markdown
    if mathematics:
        card = gr.Markdown(empty_pane(head), latex_delimiters=DELIMITERS, elem_id=name)
    else:
        card = gr.HTML(empty_pane(head), elem_id=name)
    with gr.Accordion(f"Prompt sent to {TITLES[head.kind].lower()}", open=False, elem_classes="prompt"):
        prompt = gr.Textbox(
            label=f"As the model reads it · {title_of(path)}",
            lines=4,
            max_lines=16,
            interactive=False,
            elem_id=f"{name}-prompt",
        )
    return PaneView(head, card, prompt, mathematics)


@dataclass(frozen=True)
class Filled:
    """What a page's fields become for a question of a prepared set."""

    place: Place | None
    sample: Sample

    @property
    def image(self) -> Image.Image | None:
        return self.sample.images[0] if self.sample.images else None

    @property
    def further(self) -> Any:
        """The gallery for a question about several images."""
        several = len(self.sample.images) > 1
        return gr.update(value=list(self.sample.images) if several else None, visible=several)

    @property
    def text(self) -> list[Any]:
        """Question, choices, type of answer and gold answer."""
        sample = self.sample
        return [sample.question, "\n".join(sample.choices), sample.answer_type, sample.answer]


def first_question(sets: PreparedSets, folders: Sequence[str], typed: Sample) -> Filled:
    """The question that a page opens with: the first of the first set, else an empty one."""
    if not folders:
        return Filled(None, typed)
    place = sets.place(folders[0], sets.tasks(folders[0])[0], 1)
    return Filled(place, sets.sample(place))


def answer_fields(sample: Sample) -> tuple[gr.Dropdown, gr.Textbox]:
    """Type of answer and gold answer."""
    with gr.Row():
        kind = gr.Dropdown(
            list(ANSWER_TYPES), value=sample.answer_type, label="Type of answer", min_width=140
        )
        gold = gr.Textbox(sample.answer, label="Gold answer", placeholder="if it is known", min_width=140)
    return kind, gold
