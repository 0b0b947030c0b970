"""Training from Python: one call, or one step at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.interface.run import Run
from gpg_vl.interface.settings import Config, Settings, configure
from gpg_vl.runs.leftovers import delete_earlier_run
from gpg_vl.training import train as training
from gpg_vl.training import warmstart
from gpg_vl.training.callbacks import Callbacks, Step
from gpg_vl.training.surroundings import check_run


def train(
    config: TrainConfig | str | Path | None = None,
    *,
    callbacks: Sequence[object] = (),
    resume: str | None = None,
    overwrite: bool = False,
    **settings: Unpack[Settings],
) -> Run:
    """Train with GPG, or with GRPO or Dr. GRPO in the same loop, and return the run.

    config: a YAML file, or all of it; `settings` stand over the file. callbacks: objects with methods of
    `Callback`. resume: "auto" (go on where `out` stopped, if it did) or a checkpoint folder. overwrite:
    delete an earlier run in `out`, and nothing that no run wrote. Raises a UserError for what the user can
    mend, before a model is loaded where that can be told; Stopped, with everything saved, after Ctrl-C.
    """
    followers = Callbacks(callbacks)
    checked = _ready(configure(TrainConfig, config, settings), resume, overwrite=overwrite)
    training.train(checked, resume=resume, callbacks=followers)
    return Run(checked.out)


def steps(
    config: TrainConfig | str | Path | None = None,
    *,
    callbacks: Sequence[object] = (),
    resume: str | None = None,
    overwrite: bool = False,
    **settings: Unpack[Settings],
) -> Iterator[Step]:
    """The loop of `train`, a step at a time; with the same arguments.

    Each step is written down when it comes, and evaluated and saved if it was due. Who leaves the loop early
    has the checkpoints that were due until then. With several processes, all of them leave together.
    """
    followers = Callbacks(callbacks)
    checked = _ready(configure(TrainConfig, config, settings), resume, overwrite=overwrite)
    return training.steps(checked, resume=resume, callbacks=followers)


def sft(
    config: SftConfig | str | Path | None = None,
    *,
    callbacks: Sequence[object] = (),
    resume: str | None = None,
    overwrite: bool = False,
    **settings: Unpack[Settings],
) -> Run:
    """Fine-tune on gold answers, as a warm start; arguments as in `train`, but for rewards and rollouts."""
    followers = Callbacks(callbacks)
    checked = _ready(configure(SftConfig, config, settings), resume, overwrite=overwrite)
    warmstart.sft(checked, resume=resume, callbacks=followers)
    return Run(checked.out)


def _ready(config: Config, resume: str | None, *, overwrite: bool) -> Config:
    """Check what can be told before, and make room."""
    if not isinstance(resume, str | Path | None):
        raise ConfigurationError(f'resume is "auto" or a checkpoint folder, got {resume!r}')
    check_run(config, resume, overwrite=overwrite)
    if overwrite:
        delete_earlier_run(Path(config.out), [("model.path", config.model.path)])
    return config
