"""Events that both asking tabs have, and how mistakes reach the page."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError

from .parts.chosen import Chosen
from .parts.controls import Picker, step
from .service.asking import Asking
from .service.clients import Client, network
from .service.samples import PreparedSets

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Events of the page are no part of the API."""
_SECONDS = 5.0
"""Between two looks into a run's folder."""


def page() -> gr.Blocks:
    """The page that is being built, for events of its loading."""
    built = gr.context.Context.root_block
    assert built is not None, "tabs are built inside gr.Blocks"
    return built


def message(error: UserError) -> str:
    """What the page shows of a mistake: it renders messages as HTML, and they repeat what was sent."""
    return escape(str(error), quote=False)


@contextmanager
def readable_errors() -> Iterator[None]:
    """A mistake becomes a message on the page, and for clients of the API; a bug raises."""
    try:
        yield
    except UserError as error:
        raise gr.Error(message(error), print_exception=False) from error


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
    chosen: Picker,
    fill: Callable[[str, str, int], list[Any]],
    outputs: Sequence[Any],
    asked: Any,
) -> None:
    """Fill the page with the question that `chosen` names, whenever another one is chosen.

    fill: from set, task and number to values of `outputs`. asked: the event that answers, which ends: an
    answer below another question would mislead.
    """
    sets = asking.sets

    def filled(folder: str, task: str, number: float | None, request: gr.Request) -> list[Any]:
        asking.stop(str(request.session_hash))
        with readable_errors():
            return fill(folder, task, int(number or 1))

    def another_set(folder: str) -> list[Any]:
        tasks = sets.tasks(folder)
        return [gr.update(choices=tasks, value=tasks[0]), 1]

    def another_task() -> int:
        return 1

    names = chosen.names
    options = {**PRIVATE, "cancels": [asked]}
    chosen.number.input(filled, names, outputs, trigger_mode="always_last", **options)
    moves = [
        chosen.task.input(another_task, None, chosen.number, **options),
        chosen.folder.input(another_set, chosen.folder, [chosen.task, chosen.number], **options),
    ]
    for button, by in ((chosen.before, -1), (chosen.after, 1), (chosen.any, None)):
        moves.append(button.click(_stepping(sets, by), names, chosen.number, **options))
    for moved in moves:  # and not whenever the number changes: a stored question comes with its answers
        moved.then(filled, names, outputs, **PRIVATE)


def _stepping(sets: PreparedSets, by: int | None) -> Callable[[str, str, float | None], int]:
    def moved(folder: str, task: str, number: float | None) -> int:
        with readable_errors():
            return step(sets, folder, task, number, by)

    return moved


def wire_stop(asking: Asking, button: gr.Button) -> None:
    """End what this visitor has running or waiting."""

    def stop(request: gr.Request) -> None:
        asking.stop(str(request.session_hash))

    button.click(stop, None, None, queue=False, **PRIVATE)


def watch_evaluations(chosen: Chosen) -> None:
    """Look into the run's folder when the page opens and every few seconds; a change changes `stamp`."""

    def look() -> str:
        return chosen.evaluations.stamp()

    gr.on([page().load, gr.Timer(_SECONDS).tick], look, None, chosen.stamp, **PRIVATE)
