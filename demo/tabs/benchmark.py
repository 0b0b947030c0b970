"""The Benchmark tab: two evaluations of the same questions, and the questions that changed."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import COLUMNS, comparison_notes, comparison_rows
from gpg_vl.evaluation.compare_rewards import REWARD_COLUMNS, reward_rows

from ..addresses import address_follows, copy_link, open_by_link, or_skip
from ..links import Link
from ..parts.chosen import Chosen
from ..parts.controls import hidden
from ..parts.markup import hint, note, table, tiles
from ..parts.results import OPENING, Question, bars, framed, pager, rows
from ..parts.words import figures
from ..service.evaluations import ALL, OUTCOMES, Comparison, Selection, headline
from ..service.thumbnails import Thumbnails
from ..wiring import RAW

_PAGE = 50
"""Questions shown at a time."""
_SIDE = 144
"""Pixels of an image: it is shown at 56 to 72, and screens have up to two dots each."""


@dataclass(frozen=True)
class BenchmarkTab:
    """What other parts of the app may wire."""

    chosen: Chosen
    filters: list[Any]
    """Outcome, task and text of the questions that are listed."""
    turned: gr.Textbox
    """Hidden: which page of which list was asked for."""
    results: list[Any]
    """Summary, bars, test, and the list of questions."""
    selection: gr.Textbox
    """Hidden: from which list which question was opened, as `Selection` writes it; empty before that."""
    opened: Any = None
    """The event that fills in `selection`."""

    @property
    def inputs(self) -> list[Any]:
        """What `view` takes."""
        return [*self.chosen.names, *self.filters, self.turned]

    @property
    def outputs(self) -> list[Any]:
        """What `view` fills in."""
        return [*self.chosen.names, self.filters[1], *self.results]


@dataclass(frozen=True)
class View:
    """The tab as a function of what the page sends; texts are untrusted, and may be anything."""

    chosen: Chosen
    thumbnails: Thumbnails

    def __call__(self, base: object, trained: object, *wanted: object) -> list[Any]:
        """Values of `BenchmarkTab.outputs`: the message alone where the two do not compare."""
        evaluations = self.chosen.evaluations
        lists = self.chosen.updates(base, trained)
        reason = evaluations.missing()
        if reason:
            return [*lists, gr.skip(), framed(note(reason)), "", "", ""]
        first, last = evaluations.pair(base, trained)
        try:
            found = evaluations.compare(first, last)
        except DataError as error:
            return [*lists, gr.skip(), framed(note(str(error))), "", "", ""]
        *filters, turned = wanted
        list_of = self.list_of(base, trained, *filters)
        if list_of.task not in found.tasks:
            list_of = replace(list_of, task=ALL)
        tasks = gr.Dropdown([ALL, *found.tasks], value=list_of.task)
        return [*lists, tasks, *_compared(found), self._listed(found, list_of, turned)]

    def list_of(self, base: object, trained: object, *filters: object) -> Selection:
        """The list of questions that these name."""
        first, last = self.chosen.evaluations.pair(base, trained)
        return Selection(str(first), str(last), *map(str, filters))

    def _listed(self, found: Comparison, list_of: Selection, turned: object) -> str:
        """A page of the questions."""
        pairs = list_of.listed(found)
        page = min(_page(turned, list_of), max(1, -(-len(pairs) // _PAGE)))
        shown = pairs[(page - 1) * _PAGE : page * _PAGE]
        questions = [Question(pair, self.thumbnails.of(pair[1], _SIDE)) for pair in shown]
        count = hint(f"{len(pairs):,} of {len(found.pairs):,} questions")
        return framed(count, rows(questions), pager(page, _PAGE, len(pairs))) if pairs else framed(count)


def benchmark_tab(chosen: Chosen, tab: gr.Tab, thumbnails: Thumbnails) -> BenchmarkTab:
    """Build the tab inside `tab`; without two evaluations it only says what to pass."""
    with gr.Row():
        for names in chosen.names:
            names.render()
    summary = gr.HTML(padding=False)
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            figure = gr.HTML(padding=False)
        with gr.Column(scale=8, min_width=320):
            test = gr.HTML(padding=False)
    with gr.Row():
        kind = gr.Radio(list(OUTCOMES), value=ALL, label="Questions", scale=3, min_width=300)
        task = gr.Dropdown([ALL], value=ALL, label="Task", scale=1, min_width=150)
        text = gr.Textbox("", label="Search", placeholder="question, answer or id", scale=1, min_width=150)
    listed = gr.HTML(padding=False, js_on_load=OPENING, elem_id="questions")
    turned = hidden()
    selection = hidden(elem_id="benchmark-selection")
    with gr.Row(elem_classes="share"):
        copy_link()
    built = BenchmarkTab(chosen, [kind, task, text], turned, [summary, figure, test, listed], selection)
    return replace(built, opened=_wire(built, tab, View(chosen, thumbnails), listed))


def _wire(built: BenchmarkTab, tab: gr.Tab, view: View, listed: gr.HTML) -> Any:
    """One event paints all; the others only say which page, and which question was opened."""
    chosen, inputs = built.chosen, built.inputs

    def turn(event: gr.EventData, *values: object) -> str:
        return json.dumps([event.page, view.list_of(*values[:-1]).to_json()])

    def pick(event: gr.EventData, *values: object) -> str:
        return replace(view.list_of(*values[:-1]), id=str(event.id)).to_json()

    def painted(request: gr.Request, base: object, trained: object, *wanted: object) -> list[Any]:
        return view(*chosen.named(base, trained, request.query_params), *wanted)

    lists = [names.input for names in chosen.names]
    filters = [wanted.change for wanted in (*built.filters, built.turned)]
    triggers = [tab.select, chosen.stamp.change, *lists, *filters]
    gr.on(triggers, painted, inputs, built.outputs, trigger_mode="always_last", **RAW)
    listed.turn(turn, inputs, built.turned, **RAW)
    linked = open_by_link(partial(_linked, chosen), [*chosen.names, *built.filters])
    linked.then(painted, inputs, built.outputs, **RAW)
    outcome, task, text = built.filters
    shown = {"base": chosen.base, "trained": chosen.trained, "outcome": outcome, "task": task, "search": text}
    address_follows(shown, {"outcome": {ALL: ""}, "task": {ALL: ""}})
    return listed.select(pick, inputs, built.selection, **RAW)


def _linked(chosen: Chosen, link: Link) -> list[Any]:
    """Evaluations and filters that a link names. Raises ConfigurationError for an unknown one."""
    task = None if link.task is None else gr.Dropdown([ALL, link.task], value=link.task)
    outcome = link.choice("outcome", OUTCOMES)
    return [*chosen.linked(link), *map(or_skip, (outcome, task, link.text))]


def _page(turned: object, list_of: Selection) -> int:
    """The page that was asked for, if it was of this list; else the first."""
    try:
        page, of = json.loads(str(turned))
    except (TypeError, ValueError, RecursionError):  # nothing yet, or what no page of ours sends
        return 1
    return page if isinstance(page, int) and page > 0 and of == list_of.to_json() else 1


def _compared(found: Comparison) -> list[str]:
    """Headline, bars, and the test with what it means."""
    rewarded = reward_rows(found.result)
    rewards = table(REWARD_COLUMNS, rewarded, total=False) if rewarded else ""
    notes = "".join(map(_sentence, comparison_notes(found.result, ids=False)))
    test = table([found.score, *COLUMNS[1:]], comparison_rows(found.result))
    return [tiles(headline(found)), framed(bars(found)), test + rewards + notes]


def _sentence(text: str) -> str:
    return hint(figures(text[:1].upper() + text[1:]))
