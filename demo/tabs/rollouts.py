"""The Rollouts tab: what a run sampled, group by group, and what another reward makes of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..addresses import address_follows, copy_link, open_by_link, or_skip
from ..links import Link
from ..parts.markup import note
from ..parts.rollout_views import ALL, NONE, THIS, Asked, found, name_of, scored, view
from ..parts.rollouts import settled
from ..service.newest import Newest
from ..service.rescoring import Other, offered
from ..service.settings import DemoSettings
from ..wiring import PRIVATE, RAW, SECONDS

_AT_A_TIME: dict[str, Any] = {**RAW, "concurrency_limit": 2}
"""Long work."""
_EVERYWHERE = "all"
"""The scope of a search in all steps, as addresses name it."""


@dataclass(frozen=True)
class _Controls:
    """What says which group is shown, and how."""

    step: gr.Slider
    search: gr.Textbox
    scope: gr.Radio
    group: gr.Dropdown
    """Its value is `rollout_views.name_of` a place."""
    reward: gr.Dropdown

    @property
    def asked(self) -> list[Any]:
        """The controls, as `Asked.of` takes them."""
        return [self.step, self.search, self.scope, self.group, self.reward]


def rollouts_tab(settings: DemoSettings) -> None:
    """Build the tab inside the current block; without a run it only says what to pass."""
    if settings.run is None:
        gr.HTML(note("Start the app with --run RUN_DIR to browse the answers that a training run sampled."))
        return
    run, rewards = Path(settings.run).absolute(), offered(settings.reward)
    missing = gr.HTML(padding=False)
    with gr.Column(visible=False) as controls:
        with gr.Row():
            step = gr.Slider(0, 1, value=0, step=1, label="Step", scale=3, min_width=200, buttons=[])
            search = gr.Textbox("", label="Search in the answers", scale=3, min_width=200, max_length=500)
            scope = gr.Radio([THIS, ALL], value=THIS, label="Search in", scale=2, min_width=240)
        group = gr.Dropdown([], label="Question")
        line = gr.HTML(padding=False)
        question = gr.HTML(padding=False)
        with gr.Row(equal_height=True):
            reward = gr.Dropdown([NONE, *rewards], value=NONE, label="Score again with", min_width=180)
            whole = gr.Button(
                "Score the whole step", interactive=False, size="md", min_width=180, elem_classes="beside"
            )
            stop = gr.Button(
                "Stop", variant="stop", visible=False, size="md", min_width=80, elem_classes="beside"
            )
            rescored = gr.HTML(padding=False, min_width=320, elem_classes="beside")
        report = gr.HTML(padding=False)
        answers = gr.HTML(padding=False)
    tab = _Controls(step, search, scope, group, reward)
    outputs = [missing, controls, step, group, question, rescored, answers, whole]
    with gr.Row(elem_classes="share"):
        copy_link()
    _wire_view(tab, rewards, partial(view, run, settings.data, rewards), outputs)
    _wire_search(tab, partial(found, run), line)
    _wire_scoring(tab, partial(scored, run, settings.data, rewards), whole, stop, report)


def _wire_view(
    tab: _Controls,
    rewards: Mapping[str, Other],
    paint: Callable[[Asked, Any], list[Any]],
    outputs: Sequence[Any],
) -> None:
    """One event paints everything from everything: an older request cannot paint over a newer one."""
    painted = gr.State(())

    def show(*inputs: Any) -> list[Any]:
        return paint(Asked.of(*inputs[:-1]), inputs[-1])

    changes = [tab.step.input, tab.search.change, tab.scope.input, tab.group.change, tab.reward.input]
    inputs, painting = [*tab.asked, painted], [*outputs, painted]
    gr.on([*changes, gr.Timer(SECONDS).tick], show, inputs, painting, trigger_mode="always_last", **RAW)
    open_by_link(partial(_linked, rewards), tab.asked).then(
        show, inputs, painting, **RAW
    )  # on every page, once it is loaded
    shown = {"place": tab.group, "search": tab.search, "scope": tab.scope, "reward": tab.reward}
    address_follows(shown, {"scope": {THIS: "", ALL: _EVERYWHERE}, "reward": {NONE: ""}})


def _linked(rewards: Mapping[str, Other], link: Link) -> list[Any]:
    """The controls that a link names; a step or group that is not there is left to `view`.

    Raises ConfigurationError for a reward that is not offered, and an unknown scope.
    """
    place = (
        None if None in (link.step, link.group) else name_of((int(link.step or 0), int(link.group or 1) - 1))
    )
    group = None if place is None else gr.Dropdown([place], value=place)
    scope = ALL if link.choice("scope", [_EVERYWHERE]) else None
    named = (link.step, link.text, scope, group, link.choice("reward", rewards))
    return [or_skip(value) for value in named]


def _wire_search(tab: _Controls, search: Callable[[Asked], Iterator[list[Any]]], line: gr.HTML) -> None:
    """Search all steps while the page goes on; a newer text ends the older search."""
    turns = Newest()

    def find(
        step: Any, text: Any, scope: Any, group: Any, reward: Any, request: gr.Request
    ) -> Iterator[list[Any]]:
        asked = Asked.of(step, text, scope, group, reward)
        yield from turns.while_newest(request.session_hash, search(asked))

    changes = [tab.search.change, tab.scope.input]
    gr.on(changes, find, tab.asked, [line, tab.group], trigger_mode="multiple", **_AT_A_TIME)


def _wire_scoring(
    tab: _Controls,
    score: Callable[[Asked], Iterator[str]],
    whole: gr.Button,
    stop: gr.Button,
    report: gr.HTML,
) -> None:
    """Score all groups of the step; another step, another reward or Stop ends it."""
    turns = Newest()

    def begin() -> gr.Button:
        return gr.Button(visible=True)

    def go_on(
        step: Any, text: Any, scope: Any, group: Any, reward: Any, request: gr.Request
    ) -> Iterator[str]:
        asked = Asked.of(step, text, scope, group, reward)
        yield from turns.while_newest(request.session_hash, score(asked))

    def settle(said: Any, request: gr.Request) -> list[Any]:
        if turns.goes_on(request.session_hash):
            return [gr.Button(visible=True), gr.skip()]
        return [gr.Button(visible=False), settled(str(said or ""))]

    def end(request: gr.Request) -> gr.Button:
        turns.end(request.session_hash)
        return gr.Button(visible=False)

    def forget(request: gr.Request) -> list[Any]:
        return ["", end(request)]

    begun = whole.click(begin, None, stop, **PRIVATE)
    begun.then(go_on, tab.asked, report, **_AT_A_TIME).then(settle, report, [stop, report], **RAW)
    stop.click(end, None, stop, **PRIVATE)
    # Of the list its change: its input comes whenever it is left.
    others = [tab.step.input, tab.scope.input, tab.reward.change]
    gr.on(others, forget, None, [report, stop], **PRIVATE)
