"""What `gpg-vl quickstart` is told; imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from gpg_vl.checks import seed_in_range, tidy
from gpg_vl.errors import ConfigurationError


@dataclass(frozen=True)
class Tour:
    """Make scenes and a small model, warm it up, train it with GPG, and report; no network, no GPU."""

    out: str = "runs/quickstart"
    """Folder for everything; the same command goes on there if it was stopped."""
    seed: int = 1
    """Seed of scenes, model and answers."""
    compare: Literal["grpo"] | None = None
    """Also train with GRPO, from the same warm start on as many sampled answers."""
    reasoning: bool = False
    """Also questions of several steps, answered by the same model with and without writing the steps down."""
    steps: int | None = None
    """GPG steps; None takes the recipe's."""
    warm_start_steps: int | None = None
    """Supervised steps before; None takes the recipe's."""
    learning_rate: float | None = None
    """Of GPG; None takes the recipe's."""
    compare_learning_rate: float | None = None
    """Of the other run; None takes the recipe's, which was chosen for GPG."""
    train_rows: int = 16_000
    """Scenes to train on."""
    held_out_rows: int = 640
    """Scenes to evaluate on, of the test split, whose configurations never occur in training."""

    def __post_init__(self) -> None:
        tidy(self, "--", paths=("out",))
        seed_in_range(self.seed, "--seed")
        if not self.out:
            raise ConfigurationError("--out is empty: name a folder")
        for name in ("steps", "warm_start_steps", "train_rows", "held_out_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"--{name} must be at least 1, got {value}")
        for name in ("learning_rate", "compare_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"--{name} must be positive, got {value}")
        if self.compare_learning_rate is not None and self.compare is None:
            raise ConfigurationError("--compare_learning_rate is of the other run: add --compare grpo")

    def on(self, seed: int) -> "Tour":
        """The same with another seed, in a folder below this one's."""
        return replace(self, seed=seed, out=f"{self.out}/seed_{seed}")

    def command(self, **changes: object) -> str:
        """What to type for this tour with some options changed."""
        given = {**vars(self), **changes}
        defaults = {item.name: item.default for item in fields(self)}
        changed = {name: value for name, value in given.items() if value != defaults[name]}
        words = [f"--{name}" if value is True else f"--{name} {value}" for name, value in changed.items()]
        return " ".join(["gpg-vl quickstart", *words])


def seeded(tour: Tour, seeds: Sequence[int]) -> list[Tour]:
    """One tour a seed. Raises ConfigurationError if one is given twice or `--seed` besides."""
    if tour.seed != Tour.seed:
        raise ConfigurationError(f"--seed {tour.seed} and --seeds are given: choose one of them")
    for seed in seeds:
        seed_in_range(seed, "--seeds")
    if len(set(seeds)) < len(seeds):
        raise ConfigurationError(f"--seeds names one twice: {' '.join(map(str, seeds))}")
    return [tour.on(seed) for seed in seeds]
