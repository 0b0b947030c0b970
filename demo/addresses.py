"""Deep links: the page opens as its address says, the address follows what is shown, a button copies it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError

from .links import TABS, Link, names_of
from .parts.controls import Picker, numbered
from .service.samples import ALL_TASKS, PreparedSets
from .wiring import PRIVATE, message, page

_COPY = "Copy link"


def tab(title: str) -> gr.Tab:
    """A tab that links can name: by its title in small letters. The address names it once it is selected."""
    name = title.lower()
    built = gr.Tab(title, id=name, elem_id=f"tab-{name}")
    built.select(None, None, None, js=f"() => gpg.select({json.dumps(name)})", **PRIVATE)
    return built


def _enclosing() -> gr.Tab | None:
    """The tab that is being built; None for one that stands alone, which nothing links to."""
    block = gr.context.Context.block
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    return block


def open_by_link(read: Callable[[Link], list[Any]], outputs: Sequence[Any]) -> Any:
    """Fill `outputs` by `read` when the page is opened by a link to the tab being built; returns the event.

    A link that is wrong, or older than what is there now, leaves the page as it opens and says why.
    """
    tab = _enclosing()

    def filled(values: list[Any]) -> Any:
        return values[0] if len(outputs) == 1 else values  # Gradio takes a list for the one output's value

    def opened(request: gr.Request) -> Any:
        untouched = filled([gr.skip()] * len(outputs))
        if tab is None or request.query_params.get("tab") != tab.id:
            return untouched
        try:
            return filled(read(Link.read(request.query_params)))
        except UserError as error:
            gr.Warning(message(error))
            return untouched

    return page().load(opened, None, list(outputs), **PRIVATE)


def select_by_link(tabs: gr.Tabs, first: Callable[[], str]) -> None:
    """Open the tab that the link names, else the `first`; the address follows the page from then on."""

    built = tabs.selected

    def selected(request: gr.Request) -> Any:
        name = None
        try:
            name = Link(tab=request.query_params.get("tab")).choice("tab", TABS)
        except UserError as error:
            gr.Warning(message(error))
        chosen = name or first()
        # A visitor may be elsewhere already: what is built so needs no word.
        return gr.skip() if chosen == built else gr.Tabs(selected=chosen)

    page().load(selected, None, tabs, **PRIVATE).then(None, None, None, js="() => gpg.follow()", **PRIVATE)


def address_follows(shown: Mapping[str, Any], spelled: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Keep the address bar on what the tab being built shows, without asking the server.

    shown: components by the names of `Link.query`, a group of rollouts as `place`. spelled: by name, how a
    value is written in the address where that is another word; "" leaves it out.
    """
    tab = _enclosing()
    if tab is None:
        return
    arguments = ", ".join(json.dumps(part) for part in (tab.id, list(shown), spelled or {}))
    triggers = [tab.select, *(component.change for component in shown.values())]
    script = f"(...values) => gpg.show({arguments}, values)"
    gr.on(triggers, None, list(shown.values()), None, js=script, **PRIVATE)


def or_skip(value: Any) -> Any:
    """A value that a link names; a field that it leaves out stays as it is."""
    return gr.skip() if value is None else value


def copy_link() -> gr.Button:
    """A button that puts the address of what is shown on the clipboard."""
    button = gr.Button(_COPY, size="sm", min_width=100, elem_classes="copy-link")
    said = button.click(None, None, button, js="() => gpg.copy()", **PRIVATE)
    said.then(None, None, button, js=f"() => gpg.later({json.dumps(_COPY)})", **PRIVATE)
    return button


def link_questions(
    sets: PreparedSets, chosen: Picker, fill: Callable[[str, str, int], list[Any]], outputs: Sequence[Any]
) -> None:
    """A question of a prepared set opens by its link, and the address names the one that is chosen.

    fill: from set, task and number to values of `outputs`, as for `wire_picker`.
    """
    folders = [str(folder) for _, folder in chosen.folder.choices]
    named = names_of(folders)

    def opened(link: Link) -> list[Any]:
        name = link.choice("set", named) or next(iter(named), None)
        if name is None or (link.set, link.task, link.q) == (None, None, None):
            return [gr.skip()] * (3 + len(outputs))
        folder, tasks = named[name], sets.tasks(named[name])
        task, number = link.choice("task", tasks) or tasks[0], link.q or 1
        filled = fill(folder, task, number)
        count = sets.count(folder, task)
        return [folder, gr.update(choices=tasks, value=task), numbered(number, count), *filled]

    open_by_link(opened, [*chosen.names, *outputs])
    shown = {"set": chosen.folder, "task": chosen.task, "q": chosen.number}
    spelled = {"set": {folder: name for name, folder in named.items()}, "task": {ALL_TASKS: ""}}
    address_follows(shown, spelled)
