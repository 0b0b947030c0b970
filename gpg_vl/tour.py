"""What `gpg-vl quickstart` is told; imports no torch."""

from dataclasses import dataclass, fields
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
    steps: int | None = None
    """GPG steps; None takes the recipe's."""
    warm_start_steps: int | None = None
    """Supervised steps before; None takes the recipe's."""
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

    def command(self, **changes: object) -> str:
        """What to type for this tour with some options changed."""
        given = {**vars(self), **changes}
        defaults = {item.name: item.default for item in fields(self)}
        words = [f"--{name} {value}" for name, value in given.items() if value != defaults[name]]
        return " ".join(["gpg-vl quickstart", *words])
