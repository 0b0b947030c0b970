"""What rewards count while they score, such as a judge's requests and tokens: the cost of a reward."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(name: str, n: int = 1) -> None:
    """Add n to a count of this process, from any thread; `judge/requests` becomes `counts/judge/requests`.

    A worker process hands what a call counted to the trainer with its score.
    """
    with _lock:
        _counts[name] += n


def taken() -> dict[str, int]:
    """What this process has counted since the last call, by name."""
    with _lock:
        counts = dict(_counts)
        _counts.clear()
    return counts


def summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several processes as one's, in the order of their names."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def counts_text(counts: Mapping[str, int]) -> str:
    """One line for people: `counted: judge/failed 1, judge/requests 1,200`."""
    return "counted: " + ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items()))
