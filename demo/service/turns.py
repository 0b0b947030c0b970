"""Who is next, and how much one client may have open."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gpg_vl.errors import BusyError

from .clients import Client

Part = TypeVar("Part")
_Questions = deque[deque[Part]]
_QUANTUM = 0.5
"""Seconds of work that a turn is meant to cost: who took more is passed over until that is paid back."""
_MOST_DEBT = 30.0
"""Seconds that are paid back at most."""
_REMEMBERED = 1000
"""Debts of addresses and sessions that are kept; the oldest are forgiven."""


@dataclass(frozen=True)
class Limits:
    """How many questions may be open, waiting or being answered."""

    session: int
    address: int
    total: int

    @classmethod
    def sharing(cls, total: int, session: int) -> "Limits":
        """One address never takes all places, and a session never more than its address."""
        return cls(session, max(session, total // 2), total)

    def admit(self, client: Client, others: Sequence[Client]) -> None:
        """Raise BusyError if `client` may not ask beside the `others`, whose questions are open."""
        own = sum(other == client for other in others)
        near = sum(other.address == client.address for other in others)
        if own >= self.session:
            raise BusyError(f"you have {_questions(own)} open, and {self.session} is the limit: {_CURE}")
        if near >= self.address:
            raise BusyError(
                f"your address has {_questions(near)} open, and {self.address} is the limit: {_CURE}"
            )
        if len(others) >= self.total:
            raise BusyError(f"{_questions(len(others))} are open, and {self.total} is the limit: {_CURE}")


_CURE = "ask again once one is answered"


def _questions(count: int) -> str:
    return f"{count} question{'' if count == 1 else 's'}"


class Turns(Generic[Part]):
    """Questions that wait, in parts (one a model).

    Addresses take turns, within an address its sessions, and within a session questions as they came: who
    asks much holds up nobody else, and who asks for much work is passed over, until nobody waits (deficit
    round robin, Shreedhar and Varghese 1995, with most of the cost known afterwards). A turn is a whole
    question, so that it is over soon once it has begun. Newcomers stand at the end, or a client that calls
    itself new each time would never wait.
    """

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, OrderedDict[str, _Questions[Part]]] = OrderedDict()
        self._debts: OrderedDict[Hashable, float] = OrderedDict()
        self._ranks: dict[Part, int] | None = None

    def add(self, client: Client, parts: Sequence[Part]) -> None:
        """Let a question wait for its turn."""
        sessions = self._addresses.setdefault(client.address, OrderedDict())
        sessions.setdefault(client.session, deque()).append(deque(parts))
        self._ranks = None

    def charge(self, client: Client, seconds: float) -> None:
        """Tell what a question costs, beforehand as far as it is known, and the difference later."""
        for debtor in (client.address, client):
            self._debts[debtor] = min(self._debts.pop(debtor, -_QUANTUM) + seconds, _MOST_DEBT)
        while len(self._debts) > _REMEMBERED:
            self._debts.popitem(last=False)
        self._ranks = None

    def take(self) -> Part | None:
        """The next part, which waits no longer; None if none does."""
        if not self._addresses:
            return None
        self._ranks = None
        address = self._next(self._addresses, lambda name: name)
        sessions = self._addresses[address]
        session = self._next(sessions, lambda name: Client(address, name))
        questions = sessions[session]
        part = questions[0].popleft()
        if not questions[0]:
            questions.popleft()
            _to_the_end(sessions, session)
            _to_the_end(self._addresses, address)
        if not self._addresses:
            self._debts.clear()
        return part

    def remove(self, part: Part) -> bool:
        """Let it wait no longer; False if it does not wait."""
        for address, sessions in self._addresses.items():
            for session, questions in sessions.items():
                for question in questions:
                    if part in question:
                        self._without(part, address, session, question)
                        return True
        return False

    def before(self, part: Part) -> int:
        """How many parts are taken before this one, as things stand; 0 if it does not wait."""
        if self._ranks is None:
            self._ranks = {one: rank for rank, one in enumerate(self._order())}
        return self._ranks.get(part, 0)

    def _next(self, round_: OrderedDict[str, Any], debtor: Callable[[str], Hashable]) -> str:
        """Whose turn it is in a round; who is in debt pays a quantum, and stands at the end."""
        while len(round_) > 1:
            name = next(iter(round_))
            debt = self._debts.get(debtor(name), 0.0)
            if debt <= 0:
                return name
            self._debts[debtor(name)] = debt - _QUANTUM
            round_.move_to_end(name)
        return next(iter(round_))

    def _without(self, part: Part, address: str, session: str, question: deque[Part]) -> None:
        """Whoever has nothing left to wait for leaves the round, and the others keep their places."""
        question.remove(part)
        sessions = self._addresses[address]
        sessions[session] = deque(one for one in sessions[session] if one)
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del self._addresses[address]
        self._ranks = None

    def _order(self) -> list[Part]:
        ahead: Turns[Part] = Turns()
        ahead._debts = self._debts.copy()
        for address, sessions in self._addresses.items():
            ahead._addresses[address] = OrderedDict(
                (session, deque(map(deque, questions))) for session, questions in sessions.items()
            )
        order = []
        while (part := ahead.take()) is not None:
            order.append(part)
        return order


def _to_the_end(
    round_: OrderedDict[str, OrderedDict[str, _Questions[Part]]] | OrderedDict[str, _Questions[Part]],
    name: str,
) -> None:
    """Behind the others; away if nothing of it waits."""
    if round_[name]:
        round_.move_to_end(name)
    else:
        del round_[name]
