"""Events that both asking tabs have, and how mistakes reach the page."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError

from .parts.chosen import Chosen
from .parts.controls import GREEDY, Decoding, PaneView, Picker, numbered, step
from .parts.live import COMPARED, NOTED, SETTLED, TYPED, TYPED_TURN, chosen, entered, greyed, painted
from .parts.words import for_page
from .reading import while_read
from .service.asking import Asking
from .service.clients import Client, network

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Events of the page are no part of the API."""
RAW: dict[str, Any] = {**PRIVATE, "preprocess": False}
"""Of events that take what the page sends as it is: a server that was started again does not know what
Gradio's own checks compare with, such as the tasks of the set that was chosen, and none knows what lists have
been offered since. They check it themselves."""
SECONDS = 5.0
"""Between two looks into a run's folder."""


def page() -> gr.Blocks:
    """The page that is being built, for events of its loading."""
    built = gr.context.Context.root_block
    assert built is not None, "tabs are built inside gr.Blocks"
    return built


def message(error: UserError, roots: Sequence[str] = ()) -> str:
    """What the page shows of a mistake: it renders messages as HTML, and they repeat what was sent.

    roots: see `for_page`.
    """
    return escape(for_page(str(error), roots), quote=False)


@contextmanager
def readable_errors(roots: Sequence[str] = ()) -> Iterator[None]:
    """A mistake becomes a message on the page, and for clients of the API; a bug raises."""
    try:
        yield
    except UserError as error:
        raise gr.Error(message(error, roots), print_exception=False) from error


QUEUED: dict[str, Any] = {"concurrency_id": "generation", "concurrency_limit": None, "preprocess": False}
"""Options of events that make answers: they start at once, and `Generations` has them wait and bounds them.

Without Gradio's `preprocess`, which would open uploads before their size is known: `Fields` and `Upload`
check what was sent.
"""


def client_of(request: gr.Request) -> Client:
    """Who sent a request. The address is the connection's, or what a trusted proxy says."""
    host = request.client.host if request.client else ""
    return Client(network(host), str(request.session_hash))


def wire_picker(
    asking: Asking,
    picked: Picker,
    fill: Callable[[str, str, int], list[Any]],
    outputs: Sequence[Any],
    asked: Any,
) -> None:
    """Fill the page with the question that `picked` names, whenever another one is chosen.

    fill: from set, task and number to values of `outputs`. asked: the event that answers, which ends: an
    answer below another question would mislead.

    However it is chosen, `picked.turn` changes, and one event paints what then stands in the fields: an older
    request never paints over a newer one. It is not the number's own change, for a stored question changes
    the number as well, and comes with its answers.
    """
    names, number, turn = picked.names, picked.number, picked.turn
    another: dict[str, Any] = {**RAW, "cancels": [asked]}
    number.input(None, None, turn, js=TYPED_TURN, **PRIVATE)
    _wire_list(picked.task, [number, turn], [1])
    _wire_list(picked.folder, [picked.task, number, turn], [None, 1])
    for button, by in ((picked.before, -1), (picked.after, 1), (picked.any, None)):
        button.click(_stepping(asking, by), names, [number, turn], **another)
    painted = _filling(asking, fill, 2 + len(outputs))
    event = turn.change(
        painted, [turn, *names], [picked.task, number, *outputs], trigger_mode="always_last", **another
    )
    for offered in (picked.task, picked.folder):  # a visitor may have come to one before it was painted
        event.then(None, offered, None, js=entered(_key(offered)), **PRIVATE)


def _wire_list(offered: gr.Dropdown, outputs: Sequence[Any], then: Sequence[Any]) -> None:
    """What is chosen in a list becomes a new turn, the last of `outputs`; the others become `then`."""
    key = _key(offered)
    offered.focus(None, offered, None, js=entered(key), **PRIVATE)
    offered.input(None, offered, list(outputs), js=chosen(key, then), **PRIVATE)


def _key(offered: gr.Dropdown) -> str:
    """Both asking tabs have lists of the same names."""
    return str(offered._id)


def _turn() -> str:
    """A value that `Picker.turn` never had."""
    return str(time.time_ns())


def _task(tasks: Sequence[str], task: str | None) -> str:
    """The chosen task; the first where the set is another since: its tasks are told once it is painted."""
    return next((one for one in tasks if one == task), tasks[0])


def _stepping(asking: Asking, by: int | None) -> Callable[[str, str, float | None], list[Any]]:
    def moved(folder: str, task: str | None, number: float | None) -> list[Any]:
        with readable_errors(asking.settings.roots):
            of = _task(asking.sets.tasks(folder), task)
            return [step(asking.sets, folder, of, number, by), _turn()]

    return moved


def _filling(
    asking: Asking, fill: Callable[[str, str, int], list[Any]], count: int
) -> Callable[..., list[Any]]:
    """What paints the chosen question: `count` values, the fields of its task and number first."""

    def filled(
        turn: str, folder: str, task: str | None, number: float | None, request: gr.Request
    ) -> list[Any]:
        typed = turn.startswith(TYPED)
        if typed and number is None:  # between two digits
            return [gr.skip()] * count
        asking.stop(str(request.session_hash))
        with readable_errors(asking.settings.roots):
            tasks = asking.sets.tasks(folder)
            of, wanted = _task(tasks, task), int(number or 1)
            most = asking.sets.count(folder, of)
            bounded = min(max(1, wanted), most)
            list_of_tasks = gr.update(choices=tasks) if of == task else gr.update(choices=tasks, value=of)
            return [list_of_tasks, numbered(wanted, most, typed=typed), *fill(folder, of, bounded)]

    return filled


def wire_ask(
    asking: Asking,
    triggers: Sequence[Any],
    answer: Callable[..., Generator[list[Any], None, None]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    views: Sequence[PaneView],
) -> Any:
    """The event that answers. Its panes say at once that they wait, and never that they still work once it
    has ended, whatever ended it."""
    cards = [view.card for view in views]
    gr.on(triggers, None, None, cards, js=painted([view.waiting for view in views]), **PRIVATE)
    asked = gr.on(triggers, while_read(page(), answer), inputs, outputs, **QUEUED, **PRIVATE)
    for over in (asked.then, asked.failure):  # the first alone does not come after a mistake
        over(None, cards, cards, js=SETTLED, **PRIVATE)
    return asked


def wire_stale(triggers: Sequence[Any], noted: gr.Textbox, fields: Sequence[Any], sentence: gr.HTML) -> None:
    """Say that the answers are about another question once a field has changed.

    noted: what they are about; `triggers`, the events that ask, write it.
    """
    gr.on(triggers, None, fields, noted, js=NOTED, **PRIVATE)
    changes = [part.change for part in (noted, *fields)]
    gr.on(changes, None, [noted, *fields], sentence, js=COMPARED, **PRIVATE)


def wire_decoding(how: Decoding) -> None:
    """Greedy decoding has one answer and no temperature: their fields are grey under it."""
    only_sampled = [how.samples, how.temperature]
    how.mode.change(None, how.mode, only_sampled, js=greyed(GREEDY, len(only_sampled)), **PRIVATE)


def wire_stop(asking: Asking, button: gr.Button) -> None:
    """End what this visitor has running or waiting."""

    def stop(request: gr.Request) -> None:
        asking.stop(str(request.session_hash))

    button.click(stop, None, None, queue=False, **PRIVATE)


def watch_evaluations(chosen: Chosen) -> None:
    """Look into the run's folder when the page opens and every few seconds; a change changes `stamp`.

    Without a run nothing can come, and a page that asks for nothing does not mind a server's restart.
    """

    def look() -> str:
        return chosen.evaluations.stamp()

    ticks = [] if chosen.evaluations.run is None else [gr.Timer(SECONDS).tick]
    gr.on([page().load, *ticks], look, None, chosen.stamp, **PRIVATE)
