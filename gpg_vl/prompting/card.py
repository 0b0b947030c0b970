"""`gpg_vl.json` beside a checkpoint's weights: how it is to be asked, and what it was rewarded for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.prompting.prompts import Prompt

CARD = "gpg_vl.json"
PIXELS = ("min_pixels", "max_pixels")


def unlike(card: Mapping[str, Any], prompt: Prompt, pixels: Mapping[str, int]) -> dict[str, tuple[Any, Any]]:
    """What a card says of how to ask, and what is configured instead, by option; empty where they agree."""
    now = {f"prompt.{name}": value for name, value in prompt.to_dict().items()}
    now |= {f"model.{name}": pixels[name] for name in PIXELS}
    before = {f"prompt.{name}": value for name, value in card.get("prompt", {}).items()}
    before |= {f"model.{name}": card[name] for name in PIXELS if name in card}
    return {name: (before[name], now[name]) for name in before if before[name] != now[name]}


def asking_note(path: str, prompt: Prompt, pixels: Mapping[str, int]) -> str:
    """What a user should know of how the model at `path` is asked; empty for one that says nothing of it."""
    card = read_card(path)
    if card is None:
        return ""
    changed = unlike(card, prompt, pixels)
    if not changed:
        return f"prompt and image sizes are those that {path!r} was trained with ({CARD})"
    words = ", ".join(f"{name} {before!r}, now {now!r}" for name, (before, now) in changed.items())
    return f"warning: {path!r} was trained with {words}"


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `card` beside the weights in `folder`."""
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False))


def read_card(path: str | Path) -> dict[str, Any] | None:
    """The card of a checkpoint's folder; None for a foreign model.

    Raises ModelError for one that cannot be read, or that asks in a way that this version does not know.
    """
    file = Path(path) / CARD
    if not os.path.isfile(file):
        return None
    try:
        card = json.loads(file.read_text())
        if not isinstance(card, dict):
            raise ValueError(f"it holds no table, but {type(card).__name__}")
        if "prompt" in card:
            Prompt.from_dict(card["prompt"])
        fine = all(type(card.get(name, 1)) is int and card.get(name, 1) > 0 for name in PIXELS)
        texts = card.get("stop", [])
        fine = fine and isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
    except (OSError, ValueError, TypeError, RecursionError, ConfigurationError) as error:
        raise ModelError(f"{str(file)!r} cannot be read: {error}") from error
    if not fine:
        raise ModelError(f"{str(file)!r} is damaged: pixels must be whole numbers, stop a list of texts")
    return card
