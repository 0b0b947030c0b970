"""What a checkpoint says of itself beside its weights: `gpg_vl.json` for programs, `README.md` for people.

The first says how it is to be asked and what it was rewarded for, the second is the hub's model card.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.prompting.prompts import Prompt

CARD = "gpg_vl.json"
README = "README.md"
_FENCE = "---"
"""Around the YAML at the head of a README, from which the hub knows what a model is."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PIXELS = ("min_pixels", "max_pixels")


def asking_card(
    prompt: Prompt, pixels: Mapping[str, int], stop: Sequence[str] | None = None
) -> dict[str, Any]:
    """What a card says of how a model is asked: prompt, image sizes, and the texts that end an answer."""
    return {"prompt": prompt.to_dict(), **pixels, **({} if stop is None else {"stop": list(stop)})}


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


def readme(front: Mapping[str, Any], body: str) -> str:
    """A model card: what the hub reads, and below it what people do."""
    head = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    return f"{_FENCE}\n{head}{_FENCE}\n\n{body}"


def parted_readme(text: str) -> tuple[dict[str, Any], str]:
    """The head of a README, empty where it has none that can be read, and the rest of it."""
    first, *parts = text.split(f"{_FENCE}\n", 2)
    try:
        head = yaml.safe_load(parts[0]) if not first and len(parts) == 2 else None
    except yaml.YAMLError:
        head = None
    return (head, parts[1].lstrip("\n")) if isinstance(head, dict) else ({}, text)


def merged_readme(text: str) -> str:
    """The README of a LoRA checkpoint whose adapters are in the weights now; one without a head as it is."""
    front, body = parted_readme(text)
    if not front:
        return text
    relation = {"base_model_relation": "finetune"} if "base_model_relation" in front else {}
    note = "## Merged\n\nThe adapters were added to the base model's weights by `gpg-vl merge`.\n"
    return readme(front | relation | {"library_name": "transformers"}, f"{body.rstrip()}\n\n{note}")


def base_on_hub(path: str) -> str | None:
    """The hub's name of the model at `path`, of which a checkpoint of ours knows what it began with."""
    if not Path(path).exists():
        return path if _HUB_ID.fullmatch(path) else None
    card, file = Path(path) / CARD, Path(path) / README
    if not card.is_file() or not file.is_file():  # a copy of the hub's names its own base there
        return None
    base = parted_readme(file.read_text(encoding="utf-8", errors="replace"))[0].get("base_model")
    return base if isinstance(base, str) else None
