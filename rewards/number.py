"""The numeric reward (GEOQA, counting)."""

import math
from fractions import Fraction

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._numbers import read_quantity, same_quantity


def unreadable(sample: Sample) -> str:
    """Why the gold answer is no number; "" if it is one."""
    return "" if read_quantity(sample.answer) else "gold answer not readable as a number"


@reward("number", bounds=(0, 1), unreadable=unreadable, images=False)
def number(completion: Completion, sample: Sample, *, tolerance: float = 1e-6) -> float | None:
    """1 if `<answer>` is the gold number within `tolerance` (relative; absolute if that is 0); else 0.

    Units, a degree sign, thousands separators, fractions (also "3 1/2"), powers of ten ("1.5e-3") and LaTeX
    are read: "65°" equals "65" and "65 degrees", not "650". Full-width digits are digits; those of other
    scripts, and two different numbers, score 0. None if the gold answer is no number. Raises
    ConfigurationError for a tolerance that is no finite number from 0 up. Source: accuracy reward of GPG on
    GEOQA (arXiv 2504.02546).
    """
    _check(tolerance)
    gold = read_quantity(sample.answer)
    if gold is None:
        return None
    value = None if completion.answer is None else read_quantity(completion.answer)
    within = Fraction(tolerance)

    def close(wanted: Fraction, given: Fraction) -> bool:
        return abs(given - wanted) <= within * (abs(wanted) or 1)

    return float(value is not None and same_quantity(gold, value, close))


def _check(tolerance: float) -> None:
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not 0 <= tolerance < math.inf:
        raise ConfigurationError(
            f"reward 'number' needs a tolerance that is a finite number from 0 up, got {tolerance!r}; "
            "the default is 1e-6"
        )
