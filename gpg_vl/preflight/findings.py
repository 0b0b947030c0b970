"""What a preflight found: one line a check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from gpg_vl.errors import RewardError, UserError

Result = TypeVar("Result")
UNSET = "unset"
"""The run folder of a configuration that names none."""
Level = Literal["ok", "warn", "fail", "skip"]
"""`skip`: not checked, and the text says why."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    level: Level
    text: str
    """What was found, with its numbers."""
    cure: str = ""
    """What to change; empty where nothing needs to be."""


@dataclass
class Report:
    """All findings of a preflight, and their figures by name."""

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether training as configured would fail, or learn something else than is meant."""
        return any(finding.level == "fail" for finding in self.findings)

    def add(self, findings: Sequence[Finding], figures: Mapping[str, Any] | None = None) -> None:
        """Note what a check found."""
        self.findings += findings
        self.figures |= figures or {}

    def attempt(self, check: str, work: Callable[[], Result]) -> Result | None:
        """Run a check; what the user can mend becomes a finding, and None, instead of ending the others."""
        try:
            return work()
        except (UserError, RewardError) as error:
            self.add([Finding(check, "fail", " ".join(str(error).split()))])
            return None

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "failed": self.failed,
            "findings": [asdict(finding) for finding in self.findings],
            "figures": self.figures,
        }


def percent(part: float, whole: float = 1.0) -> str:
    """A share in words; of nothing it is none."""
    return f"{part / whole:.1%}" if whole else "0.0%"
