"""TensorBoard, W&B and trackio: what each of them takes of settings, metrics and groups."""

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from accelerate import Accelerator

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.tables import markdown_table, short_number
from gpg_vl.training.group_table import ShownGroup
from gpg_vl.types import Metrics

_GROUPS = "groups"
"""What tables of groups are called."""
Plain = str | int | float | bool | None


class Trackers:
    """Those that a configuration names, through Accelerate; nothing where it names none.

    What they get is of the first process alone.
    """

    def __init__(self, accelerator: Accelerator, config: TrainConfig | SftConfig) -> None:
        """Raises ConfigurationError where W&B does not let this user in."""
        self._accelerator = accelerator
        if not config.run.trackers:
            return
        try:
            accelerator.init_trackers("gpg-vl")
        except _refusals(config.run.trackers) as error:
            raise ConfigurationError(f"run.trackers wandb: {error}") from error
        if accelerator.is_main_process:
            for tracker in accelerator.trackers:
                _store_settings(tracker, asdict(config))

    def log(self, step: int, metrics: Metrics) -> None:
        """Send one step's metrics."""
        self._accelerator.log(metrics, step=step)

    def log_groups(self, step: int, groups: Sequence[ShownGroup]) -> None:
        """Send a few of a step's groups, with their images; called by the first process."""
        for tracker in self._accelerator.trackers:
            _LOG_GROUPS[tracker.name](tracker, step, groups)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        # Flushes, also when the run ends early. `end_training` would end the processes' group as well, which
        # the next run or evaluation of the same program needs.
        for tracker in self._accelerator.trackers:
            tracker.finish()


def _refusals(trackers: Sequence[str]) -> tuple[type[Exception], ...]:
    if "wandb" not in trackers:
        return ()
    from wandb.errors import Error  # an extra of the package

    return (Error,)


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """Settings by dotted names, each with its own value, which runs are filtered by; lists as JSON."""
    flat: dict[str, Plain] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str | int | float | None)
            flat[f"{prefix}{name}"] = value if plain else json.dumps(value, ensure_ascii=False)
    return flat


def _store_settings(tracker: Any, settings: Mapping[str, Any]) -> None:
    if tracker.name == "wandb":  # makes dotted names of tables itself, and takes no names with dots
        tracker.store_init_configuration(dict(settings))
    elif tracker.name == "tensorboard" and type(tracker.writer).__module__.startswith("torch."):
        _store_in_tensorboard(tracker.writer, flat_settings(settings))
    else:
        tracker.store_init_configuration(flat_settings(settings))


def _store_in_tensorboard(writer: Any, settings: dict[str, Plain]) -> None:
    """Into the file of the curves: `add_hparams` begins another, which TensorBoard would follow instead."""
    from torch.utils.tensorboard.summary import hparams  # an extra of the package

    for part in hparams(settings, {}):
        writer.file_writer.add_summary(part)
    writer.flush()


def _to_wandb(tracker: Any, step: int, groups: Sequence[ShownGroup]) -> None:
    import wandb

    rows = list(_rows(groups, wandb.Image))
    table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
    tracker.log({_GROUPS: table}, step=step)


def _to_trackio(tracker: Any, step: int, groups: Sequence[ShownGroup]) -> None:
    import trackio

    tracker.log({_GROUPS: trackio.Table(data=list(_rows(groups, trackio.Image)))}, step=step)


def _rows(groups: Sequence[ShownGroup], image: Callable[[Any], Any]) -> Iterator[dict[str, Any]]:
    """A row an answer; the answers of a group share their image."""
    for group in groups:
        shown = image(group.image) if group.image is not None else None
        yield from ({"image": shown, **row} for row in group.rows)


def _to_tensorboard(tracker: Any, step: int, groups: Sequence[ShownGroup]) -> None:
    """A text and an image for each place, so that their sliders go through the steps."""
    for place, group in enumerate(groups):
        tracker.writer.add_text(f"{_GROUPS}/{place}", _as_text(group), step)
        if group.image is not None:
            pixels = np.asarray(group.image)  # (height, width, 3)
            tracker.writer.add_image(f"{_GROUPS}/{place}", pixels, step, dataformats="HWC")
    tracker.writer.flush()


def _as_text(group: ShownGroup) -> str:
    """Markdown: the question, then a table of the answers."""
    of_question = ("task", "prompt_id", "question", "gold")
    first = group.rows[0]
    names = [name for name in first if name not in of_question]
    table = markdown_table(names, [[_cell(row[name]) for name in names] for row in group.rows])
    head = (
        f"{_cell(first['question'])}\n\ngold: {_cell(first['gold'])} ({first['task']}, {first['prompt_id']})"
    )
    return f"{head}\n\n{table}"


def _cell(value: Plain) -> str:
    """A value in Markdown, where the tags of an answer would be taken for HTML."""
    if isinstance(value, float):
        return short_number(value)
    return html.escape("–" if value is None else str(value), quote=False)


_LOG_GROUPS: Mapping[str, Callable[[Any, int, Sequence[ShownGroup]], None]] = {
    "tensorboard": _to_tensorboard,
    "trackio": _to_trackio,
    "wandb": _to_wandb,
}
