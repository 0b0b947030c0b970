"""What a page does by itself, at once: small scripts of events that ask no server."""

import json
from collections.abc import Sequence
from typing import Any

from .markup import hint
from .pane import WORKING

CHANGED = hint("The question has changed since these answers were given.").replace(
    "gpg hint", "gpg hint stale"
)

NOTED = """(...fields) => JSON.stringify(fields.map(field => field?.path ?? field ?? ""))"""
"""The fields as one text: what the answers below will be about."""

COMPARED = f"""(noted, ...fields) => {{
  if (!noted) return ""
  const now = fields.map(field => field?.path ?? field ?? "")
  return JSON.parse(noted).every((was, at) => was === null || was === now[at]) ? "" : {json.dumps(CHANGED)}
}}"""
"""Whether the fields still are what the answers are about: nothing, or the sentence that says no."""

SETTLED = f"""(...cards) => cards.map(card =>
  card.replace(/<span class="badge {WORKING}">[^<]*/, '<span class="badge">stopped'))"""
"""No pane goes on pretending to be at work once its event is over, whatever ended it."""

TYPED = "typed"
TYPED_TURN = f"() => `{TYPED} ${{performance.now()}}`"
"""A new value of `Picker.turn` for a number that is being typed."""


def entered(name: str) -> str:
    """A script that remembers with which value a visitor came to the list `name`."""
    return f"value => {{ (window.gpgEntered ??= {{}})[{json.dumps(name)}] = value }}"


def chosen(name: str, then: Sequence[Any]) -> str:
    """A script of list `name`: once another value is chosen, `then` and a new value of `Picker.turn`.

    Gradio's lists say `input` whenever they are left, and so a second time after a choice by mouse; what was
    typed into the question would be lost by passing through.
    """
    stays = [{"__type__": "update"}] * (len(then) + 1)  # not values: those of before a choice would undo it
    return f"""value => {{
  const entered = window.gpgEntered ??= {{}}
  if (entered[{json.dumps(name)}] === value) return {json.dumps(stays)}
  entered[{json.dumps(name)}] = value
  return [...{json.dumps(list(then))}, `chosen ${{performance.now()}}`]
}}"""


def noted(fields: Sequence[str | None]) -> str:
    """The same text as NOTED for fields that the server fills in; None stands for any value."""
    return json.dumps(list(fields))


def painted(cards: Sequence[str]) -> str:
    """A script that returns these texts: cards that are painted while the request is still on its way."""
    return f"() => {json.dumps(list(cards))}"


def greyed(value: str, count: int) -> str:
    """A script that switches `count` components off while its input is `value`."""
    update = f'{{__type__: "update", interactive: chosen !== {json.dumps(value)}}}'
    return f"(chosen) => [{', '.join([update] * count)}]"
