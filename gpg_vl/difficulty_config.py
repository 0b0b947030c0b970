"""Configuration of data by difficulty: what is trained on by recorded pass rates."""

from dataclasses import dataclass
from typing import Literal

from gpg_vl.checks import require, tidy

Curriculum = Literal["none", "easy_first", "weighted"]


@dataclass(frozen=True)
class DifficultyConfig:
    """Questions to train on by their pass rates, which `gpg-vl data difficulty` records; all unless set."""

    record: str = ""
    """Name of the record beside data.train to go by; empty takes each folder's newest."""
    min: float = 0.0
    """Least pass rate to train on, a share of the recorded answers; a rate equal to it is in."""
    max: float = 1.0
    """Greatest pass rate to train on; a rate equal to it is in."""
    exclude_unsolved: bool = False
    """Leave out questions with a pass rate of exactly 0. With exclude_solved it is `--weighted_sample
    --sample_strategy medium` of the authors' command for the 7B math run."""
    exclude_solved: bool = False
    """Leave out questions with a pass rate of exactly 1."""
    missing: Literal["keep", "drop", "refuse"] = "keep"
    """Questions without a record: `keep` trains on them, `drop` leaves them out, `refuse` is an error."""

    def __post_init__(self) -> None:
        tidy(self, "data.difficulty.")
        require(
            0 <= self.min <= self.max <= 1,
            "data.difficulty.min and max are shares from 0 to 1, min at most max, got "
            f"{self.min} and {self.max}",
        )

    @property
    def chooses(self) -> bool:
        """Whether a pass rate, or having none, can leave a question out."""
        bounds = self.min > 0 or self.max < 1 or self.exclude_unsolved or self.exclude_solved
        return bounds or self.missing != "keep"
