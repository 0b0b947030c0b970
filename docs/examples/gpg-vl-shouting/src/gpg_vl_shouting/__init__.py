"""A reward that an installed package announces."""

from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample


@reward("shouting", kind="shaping")
def shouting(completion: Completion, sample: Sample, *, limit: float = 0.2) -> float:
    """Share of capitals among the letters above `limit`, rescaled to [0, 1]; 0 for a text without letters."""
    letters = [character for character in completion.text if character.isalpha()]
    capitals = sum(character.isupper() for character in letters)
    return max(0.0, capitals / len(letters) - limit) / (1 - limit) if letters else 0.0
