"""`gpg_vl.json` beside a checkpoint's weights: how it is to be asked, and what it was rewarded for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.prompting.prompts import Prompt

CARD = "gpg_vl.json"
PIXELS = ("min_pixels", "max_pixels")


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `card` beside the weights in `folder`."""
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False))


def read_card(path: str | Path) -> dict[str, Any] | None:
    """The card of a checkpoint's folder; None for a foreign model.

    Raises ModelError for one that cannot be read, or that asks in a way that this version does not know.
    """
    file = Path(path) / CARD
    if not file.is_file():
        return None
    try:
        card = dict(json.loads(file.read_text()))
        if "prompt" in card:
            Prompt.from_dict(card["prompt"])
        fine = all(type(card.get(name, 1)) is int and card.get(name, 1) > 0 for name in PIXELS)
        texts = card.get("stop", [])
        fine = fine and isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
    except (OSError, ValueError, TypeError, ConfigurationError) as error:
        raise ModelError(f"{str(file)!r} cannot be read: {error}") from error
    if not fine:
        raise ModelError(f"{str(file)!r} is damaged: pixels must be whole numbers, stop a list of texts")
    return card
