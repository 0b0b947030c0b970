"""From one question of two evaluations to the next of a list, with both stored answers. No Gradio here."""

from dataclasses import dataclass, replace

from gpg_vl.errors import DataError
from gpg_vl.runs.files import Item

from .evaluations import ALL, Comparison, Evaluations, Selection, stored_pair
from .models import Kind


@dataclass(frozen=True)
class Stored:
    """A question of two evaluations with both answers."""

    selection: Selection
    """With the names of both evaluations."""
    base: Item
    trained: Item
    where: str = ""
    """Such as "3 of 41 fixed"."""

    @property
    def answers(self) -> dict[Kind, tuple[Item, str]]:
        """Item and name of the evaluation, by model."""
        chosen = self.selection
        return {"base": (self.base, chosen.base), "trained": (self.trained, chosen.trained)}


def opened(evaluations: Evaluations, selection: Selection) -> Stored:
    """The question that a selection names. Raises DataError if it or an evaluation is not there any more."""
    chosen, compared = _compared(evaluations, selection)
    return Stored(chosen, *stored_pair(compared.pairs, chosen.id), _where(compared, chosen))


def following(evaluations: Evaluations, selection: Selection, outcome: str) -> Stored:
    """The next question of an outcome in the selection's list, round at the end; the first one without an id.

    Raises DataError if there is none.
    """
    chosen, compared = _compared(evaluations, replace(selection, outcome=outcome))
    listed = chosen.listed(compared)
    if not listed:
        raise DataError(f"no question is {_described(chosen)}")
    order = {trained["id"]: place for place, (_, trained) in enumerate(compared.pairs)}
    here = order.get(chosen.id, -1)
    base, trained = next((pair for pair in listed if order[pair[1]["id"]] > here), listed[0])
    chosen = replace(chosen, id=trained["id"])
    return Stored(chosen, base, trained, _where(compared, chosen))


def _compared(evaluations: Evaluations, selection: Selection) -> tuple[Selection, Comparison]:
    """The selection with the names of its evaluations, the run's first and last without any, and both."""
    if reason := evaluations.missing():
        raise DataError(reason)
    base, trained = map(str, evaluations.pair(selection.base, selection.trained))
    return replace(selection, base=base, trained=trained), evaluations.compare(base, trained)


def _where(compared: Comparison, chosen: Selection) -> str:
    """The question's place in its list; how many there are if it is none of them."""
    ids = [trained["id"] for _, trained in chosen.listed(compared)]
    place = f"{ids.index(chosen.id) + 1:,} of " if chosen.id in ids else ""
    return f"{place}{len(ids):,} {_described(chosen)}"


def _described(chosen: Selection) -> str:
    """The list in words."""
    outcome = "questions" if chosen.outcome == ALL else chosen.outcome.lower()
    task = "" if chosen.task == ALL else f" · {chosen.task}"
    return f"{outcome}{task}" + (f" · with {chosen.text.strip()!r}" if chosen.text.strip() else "")
