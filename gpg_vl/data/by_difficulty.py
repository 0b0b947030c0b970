"""Which rows are trained on by their recorded pass rates, and what is said of the others."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpg_vl.data.difficulty import PassRate, Record, read_record, record_names
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.difficulty_config import DifficultyConfig
from gpg_vl.errors import DataError

_NEVER, _ALWAYS, _MISSING = "never right", "always right", "without record"


@dataclass(frozen=True)
class Choice:
    """Rows of prepared folders by difficulty."""

    data: PreparedDataset
    """Those that are kept."""
    rates: tuple[PassRate | None, ...]
    """Of every row in the folders, kept or not; None without a record."""
    records: tuple[str | None, ...]
    """The name of each folder's record; None where it has none."""
    left_out: Counter[str]
    """Rows by reason."""
    unrecorded: int
    """Rows that are kept without a record."""

    @property
    def digest(self) -> str:
        """Of everything that the choice and the order depend on."""
        counts = [None if rate is None else (rate.right, rate.samples) for rate in self.rates]
        return hashlib.sha256(repr((list(self.data.row_numbers), counts)).encode()).hexdigest()

    def note(self) -> str:
        """What is left out and what is kept without a record, in numbers, for the user."""
        names = ", ".join(sorted({name for name in self.records if name is not None}))
        counts = [f"{count:,} {reason}" for reason, count in sorted(self.left_out.items())]
        parts = [f"{_listed(counts)} are left out" if counts else "none is left out"]
        parts += [f"{self.unrecorded:,} {_MISSING} are kept"] if self.unrecorded else []
        return f"{len(self.rates):,} rows by the pass rates of {names}: {', '.join(parts)}"


def choose(
    folders: Sequence[str], wanted: DifficultyConfig, records: Sequence[str | None] | None = None
) -> Choice:
    """The rows of prepared folders with the pass rates that are wanted.

    records: the name of each folder's record, where it is known from before; else the one that is
    configured, or the newest. Raises DataError where no folder has a record, one cannot be used, a row lacks
    one that must have it, or no row is left.
    """
    data = PreparedDataset.open(folders)
    found = [
        _record(folder, name)
        for folder, name in zip(folders, records or _names(folders, wanted), strict=True)
    ]
    rates = tuple(
        rate for folder, record in zip(folders, found, strict=True) for rate in _rates(folder, record)
    )
    reasons = [_reason(rate, wanted) for rate in rates]
    if wanted.missing == "refuse" and None in rates:
        raise DataError(_refusal(data, rates))
    kept = [number for number, reason in enumerate(reasons) if not reason]
    choice = Choice(
        data.choose(kept),
        rates,
        tuple(record.name if record else None for record in found),
        Counter(filter(None, reasons)),
        sum(rates[number] is None for number in kept),
    )
    if not kept:
        raise DataError(
            f"no row of {', '.join(folders)} is left to train on: {choice.note()}. Widen data.difficulty, or "
            "record another model's pass rates with `gpg-vl data difficulty`"
        )
    return choice


def _names(folders: Sequence[str], wanted: DifficultyConfig) -> list[str | None]:
    """The record of each folder. Raises DataError if none has the one that is wanted."""
    there = [record_names(folder) for folder in folders]
    if not wanted.record:
        chosen = [names[-1] if names else None for names in there]
    else:
        chosen = [wanted.record if wanted.record in names else None for names in there]
    if any(chosen):
        return chosen
    known = sorted({name for names in there for name in names})
    what = f"has a record {wanted.record!r}" if wanted.record else "has pass rates recorded"
    raise DataError(
        f"none of data.train ({', '.join(folders)}) {what}; there are: {', '.join(known) or 'none'}. "
        f"`gpg-vl data difficulty {folders[0]} --model MODEL --samples K` records them"
    )


def _record(folder: str, name: str | None) -> Record | None:
    return None if name is None else read_record(folder, name)


def _rates(folder: str, record: Record | None) -> list[PassRate | None]:
    """Of each row in a folder. Raises DataError where the record is of other questions."""
    ids = PreparedDataset.open([folder]).column("id")
    if record is None:
        return [None] * len(ids)
    if foreign := record.rates.keys() - set(ids):
        raise DataError(
            f"the record {record.name!r} of {folder!r} is of other questions: {len(foreign):,} of its "
            f"{len(record.rates):,} ids are not in the set, such as {min(foreign)!r}"
        )
    return [record.rates.get(id) for id in ids]


def _reason(rate: PassRate | None, wanted: DifficultyConfig) -> str:
    """Why a question is left out; "" if it is kept."""
    if rate is None:
        return _MISSING if wanted.missing == "drop" else ""
    if wanted.exclude_unsolved and rate.right == 0:
        return _NEVER
    if wanted.exclude_solved and rate.right == rate.samples:
        return _ALWAYS
    if rate.share < wanted.min:
        return f"below {wanted.min:g}"
    return f"above {wanted.max:g}" if rate.share > wanted.max else ""


def _refusal(data: PreparedDataset, rates: Sequence[PassRate | None]) -> str:
    first = data.column("id")[rates.index(None)]
    return (
        f"{rates.count(None):,} of the {len(rates):,} rows of {', '.join(data.folders)} have no recorded "
        f"pass rate, such as {first!r}, and data.difficulty.missing is refuse: record them with "
        "`gpg-vl data difficulty`, or set it to keep or drop"
    )


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
