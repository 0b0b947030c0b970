"""The Overview tab: what training changed, in figures and in questions to look at."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import Pair
from gpg_vl.report.samples import outcome, take_turns

from ..addresses import address_follows, copy_link, open_by_link
from ..parts.chosen import Chosen
from ..parts.controls import hidden
from ..parts.markup import hint, note
from ..parts.results import OPENING, Question, bars, cards, change_card, framed
from ..service.evaluations import BROKEN, FIXED, Comparison, Selection, select, stored_pair, title
from ..service.thumbnails import Thumbnails
from ..wiring import RAW, readable_errors

_MANY, _FEW = 6, 2
"""Cards of what training mostly did, and of the other."""
_SIDE = 224
"""Pixels of an image: it is shown at about 104, and screens have up to two dots each."""
_MEANINGS = {FIXED: "wrong before, right after", BROKEN: "right before, wrong after"}
_ALIKE = "Both lists name the same evaluation: choose two in Benchmark."


def overview_tab(chosen: Chosen, tab: gr.Tab, thumbnails: Thumbnails) -> tuple[gr.Textbox, Any]:
    """Build the tab inside `tab`; without two evaluations it only says what to pass.

    Returns the hidden field that says which question was opened, as `Selection` writes it, and the event
    that fills it in.
    """
    evaluations = chosen.evaluations
    shown = gr.HTML(padding=False, js_on_load=OPENING, elem_id="overview")
    selection = hidden()

    def view(base: object, trained: object) -> str:
        if reason := evaluations.missing():
            return framed(note(reason))
        first, last = evaluations.pair(base, trained)
        if first == last:
            return framed(note(_ALIKE))
        try:
            found = evaluations.compare(first, last)
        except DataError as error:
            return framed(note(str(error)))
        titles = title(str(first)), title(str(last))
        return story(found, titles, thumbnails, evaluations.so_far(found.trained))

    def pick(event: gr.EventData, base: object, trained: object) -> str:
        first, last = evaluations.pair(base, trained)
        with readable_errors():
            pair = stored_pair(evaluations.compare(first, last).pairs, str(event.id))
        return Selection(str(first), str(last), outcome=outcome(*pair), id=pair[1]["id"]).to_json()

    gr.on([tab.select, chosen.stamp.change], view, chosen.names, shown, trigger_mode="always_last", **RAW)
    with gr.Row(elem_classes="share"):
        copy_link()
    open_by_link(chosen.linked, chosen.names).then(view, chosen.names, shown, **RAW)
    address_follows({"base": chosen.base, "trained": chosen.trained})
    return selection, shown.select(pick, chosen.names, selection, **RAW)


def story(found: Comparison, titles: tuple[str, str], thumbnails: Thumbnails, so_far: str = "") -> str:
    """The whole tab: the change, its tasks, and examples of both kinds; what there is more of comes first."""
    worse = found.result["total"]["difference"]["mean"] < 0
    kinds = reversed(_MEANINGS) if worse else list(_MEANINGS)
    examples = "".join(
        _examples(kind, select(found.pairs, kind=kind), count, thumbnails)
        for kind, count in zip(kinds, (_MANY, _FEW), strict=True)
    )
    change = change_card(found, titles, [so_far])
    return framed(f'<div class="pair">{change}{bars(found)}</div>', examples)


def _examples(kind: str, pairs: Sequence[Pair], most: int, thumbnails: Thumbnails) -> str:
    """The first questions of a kind, the tasks in turn: nobody picked them by hand."""
    if not pairs:
        return hint(f"No question was {kind.lower()}: none is {_MEANINGS[kind]}.")
    shown = take_turns(pairs, lambda pair: str(pair[1]["task"]))[:most]
    heading = f"{len(pairs):,} {kind.lower()}: {_MEANINGS[kind]}"
    return f"<h2>{heading}</h2>" + cards([Question(pair, _picture(pair, thumbnails)) for pair in shown])


def _picture(pair: Pair, thumbnails: Thumbnails) -> str:
    base, trained = pair
    return thumbnails.with_boxes(trained, {"base": base, "trained": trained}, _SIDE)
