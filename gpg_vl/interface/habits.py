"""Names that users of TRL type first: what is said shows our call, with what they gave."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NoReturn

from gpg_vl.config_file import TRL_SAME

_ARGUMENTS = {
    "model": "model",
    "reward_funcs": "rewards",
    "train_dataset": "data",
    "eval_dataset": "validation",
    "callbacks": "callbacks",
}
"""Of a trainer."""
_POSITIONS = ("model", "reward_funcs", "args", "train_dataset", "eval_dataset")
_OPTIONS = {**TRL_SAME, "max_steps": "steps"}
_LISTED = 4
"""Entries of a list that is spelled out."""
_ANYTHING = "…"
_PRESETS = {name: {"algorithm.preset": name.lower()} for name in ("GRPO", "RLOO")}


def _config(**options: Any) -> SimpleNamespace:
    """Holds what was given until a trainer is asked for."""
    return SimpleNamespace(**options)


def _trainer(name: str, call: str) -> Callable[..., NoReturn]:
    def trainer(*positional: Any, **given: Any) -> NoReturn:
        arguments = {**dict(zip(_POSITIONS, positional, strict=False)), **given}
        options = vars(arguments.pop("args", None) or SimpleNamespace())
        preset = next((knobs for start, knobs in _PRESETS.items() if name.startswith(start)), {})
        ours = {_ARGUMENTS[key]: value for key, value in arguments.items() if key in _ARGUMENTS}
        chosen = {_OPTIONS[key]: value for key, value in options.items() if key in _OPTIONS}
        words = ", ".join(_written({"model": ..., "data": ...} | ours | preset | chosen))
        raise TypeError(f"gpg_vl has no {name}. Its call is gpg_vl.{call}({words}); see docs/python.md")

    return trainer


def _written(options: Mapping[str, Any]) -> list[str]:
    """Keyword arguments; dotted names gathered in their sections."""
    sections: dict[str, dict[str, Any]] = {}
    words = []
    for name, value in options.items():
        section, dot, option = name.partition(".")
        if dot:
            sections.setdefault(section, {})[option] = value
        else:
            words.append(f"{name}={_shown(value)}")
    return words + [f"{section}={_shown(values)}" for section, values in sections.items()]


def _shown(value: Any) -> str:
    """What was given, as far as it fits a line."""
    if isinstance(value, list | tuple) and len(value) <= _LISTED:
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return getattr(value, "__name__", _ANYTHING)


HABITS: Mapping[str, Callable[..., Any]] = {
    **{f"{kind}Config": _config for kind in ("GRPO", "GPG", "RLOO", "SFT")},
    **{f"{kind}Trainer": _trainer(f"{kind}Trainer", "train") for kind in ("GRPO", "GPG", "RLOO")},
    "SFTTrainer": _trainer("SFTTrainer", "sft"),
    "Trainer": _trainer("Trainer", "train"),
}
