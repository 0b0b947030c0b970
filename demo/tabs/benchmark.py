"""The Benchmark tab: two evaluations of the same questions, and the questions that changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import COLUMNS as TEST_COLUMNS
from gpg_vl.evaluation.compare import Pair, comparison_notes, comparison_rows
from gpg_vl.evaluation.compare_rewards import REWARD_COLUMNS, reward_rows

from ..parts.markup import hint, note, table, themed_image, tiles
from ..service.evaluations import (
    ALL,
    COLUMNS,
    OUTCOMES,
    Comparison,
    bars,
    headline,
    load,
    offered,
    rows,
    select,
)
from ..service.settings import DemoSettings
from ..wiring import page

_WIDTHS: list[str | int] = ["110px", "160px", "430px", "90px", "110px", "110px", "200px"]
_ID = COLUMNS.index("Id")


@dataclass(frozen=True)
class BenchmarkTab:
    """What other parts of the app may wire."""

    opened: gr.State
    """None, or the clicked question: `item` and the stored answers `base` and `trained`."""
    items: gr.Dataframe


def benchmark_tab(settings: DemoSettings) -> BenchmarkTab:
    """Build the tab inside the current block; without evaluations it only says what to pass."""
    opened = gr.State(None)
    files = offered(Path(settings.run)) if settings.run else {}
    if not files:
        gr.HTML(note(_missing(settings.run)))
        return BenchmarkTab(opened, gr.Dataframe(visible=False))
    names = list(files)
    with gr.Row():
        base = gr.Dropdown(names, value=names[0], label="Base: evaluation A")
        trained = gr.Dropdown(names, value=names[-1], label="Trained: evaluation B")
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
    shown = gr.HTML(padding=False)
    tab = BenchmarkTab(opened, _items())
    _wire(tab, files, [base, trained], [kind, task, text], [summary, figure, test, task], shown)
    return tab


def _items() -> gr.Dataframe:
    return gr.Dataframe(
        headers=list(COLUMNS),
        datatype="str",
        type="array",
        interactive=False,
        wrap=True,
        column_widths=_WIDTHS,
        max_height=520,
        elem_classes="items",
        label="Click a question to open it in Compare",
    )


def _wire(
    tab: BenchmarkTab,
    files: Mapping[str, Path],
    chosen: Sequence[Any],
    filters: Sequence[Any],
    results: Sequence[Any],
    shown: gr.HTML,
) -> None:
    """`chosen`: the two evaluations; `filters`: of the questions; `results`: what comparing fills in."""

    def compare_files(first: str, second: str) -> list[Any]:
        return _compared(files, first, second)

    def filter_items(first: str, second: str, *wanted: str) -> list[Any]:
        return _filtered(files, first, second, wanted)

    def open_item(first: str, second: str, event: gr.SelectData) -> Any:
        found = stored_item(load(files[first], files[second]).pairs, event.row_value[_ID])
        return gr.skip() if found is None else found

    quiet: dict[str, Any] = {"api_visibility": "private"}
    for trigger in (*(choice.change for choice in chosen), page().load):
        trigger(compare_files, chosen, results, **quiet).then(
            filter_items, [*chosen, *filters], [shown, tab.items], **quiet
        )
    for wanted in filters:
        wanted.change(
            filter_items,
            [*chosen, *filters],
            [shown, tab.items],
            trigger_mode="always_last",
            show_progress="hidden",
            **quiet,
        )
    tab.items.select(open_item, chosen, tab.opened, **quiet)


def stored_item(pairs: Sequence[Pair], id: str) -> dict[str, Any] | None:
    """The question of an id with both stored answers; None if it is in neither evaluation."""
    for base, trained in pairs:
        if trained["id"] == id:
            return {"item": trained, "base": base, "trained": trained}
    return None


def _missing(run: str | None) -> str:
    if run is None:
        return "Start the app with --run RUN_DIR to compare the evaluations in its eval folder."
    return (
        f"The run {Path(run).name} holds no evaluations (eval/*.json): make one with gpg-vl eval, "
        "or name another --run."
    )


def _compared(files: Mapping[str, Path], first: str, second: str) -> list[Any]:
    """Headline, bars and test; the message alone where the two do not compare."""
    try:
        found = load(files[first], files[second])
        drawn = bars(found.base, found.trained)
    except DataError as error:
        return [note(str(error)), "", "", gr.Dropdown([ALL], value=ALL)]
    rewarded = reward_rows(found.result)
    rewards = table(REWARD_COLUMNS, rewarded) if rewarded else ""
    notes = "".join(hint(text[:1].upper() + text[1:]) for text in comparison_notes(found.result))
    return [
        tiles(headline(found.result)),
        themed_image(*drawn, alt="Accuracy per task with 95 % intervals"),
        table(TEST_COLUMNS, comparison_rows(found.result)) + rewards + notes,
        gr.Dropdown([ALL, *found.tasks], value=ALL),
    ]


def _filtered(files: Mapping[str, Path], first: str, second: str, wanted: tuple[str, ...]) -> list[Any]:
    kind, task, text = wanted
    try:
        found: Comparison = load(files[first], files[second])
    except DataError:
        return ["", []]  # the message stands above already
    pairs = select(found.pairs, kind=kind, task=task, text=text)
    return [hint(f"{len(pairs):,} of {len(found.pairs):,} questions"), rows(pairs)]
