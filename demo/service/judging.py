"""Judging in processes of its own: bounded in time, ended when nobody waits any more, in fair turns."""

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pebble import ProcessExpired

from gpg_vl.errors import GpgError
from gpg_vl.evaluation.grading import FORMAT
from gpg_vl.runtime.guard import leave_if_imported_by_a_worker
from gpg_vl.runtime.threads import in_thread
from gpg_vl.runtime.worker_pool import Running
from gpg_vl.scoring.gold import GRADERS
from gpg_vl.scoring.workers import new_pool

from .clients import Client
from .turns import Turns
from .verdicts import Question, Step, Verdict, grade, unjudged, with_problem

_LOOK = 0.05
"""Seconds between two looks at a running step: is it still wanted, has it time left?"""
_SHARED = 2.0
"""Seconds that a judgement has while another client waits for its turn."""
_SPARE = 1
"""Processes beyond those at work: one that was ended is away while its successor imports."""


class Judgement:
    """One model's answers on the way to their verdicts; any thread may look at it."""

    def __init__(self, client: Client, question: Question, steps: Sequence[Step]) -> None:
        self.client, self.question, self.steps = client, question, steps
        self.verdicts: list[Verdict] = unjudged(question)
        """What is known so far, one an answer."""
        self.spent = 0.0
        """Seconds that its steps have run."""
        self._over = threading.Event()
        self._failure: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether the verdicts are final."""
        return self._over.is_set()

    def wait(self, seconds: float) -> None:
        """Return when it is over, at the latest after `seconds`. A bug in judging raises here."""
        self._over.wait(seconds)
        if self._failure is not None:
            raise self._failure

    def cancel(self, problem: str = "not scored: stopped") -> None:
        """End it where it is, with the reason, unless it is over."""
        if not self.over:
            self.verdicts = with_problem(self.verdicts, problem)
            self._over.set()

    def end(self, failure: BaseException | None = None) -> None:
        """The verdicts are final. failure: a bug, for whoever waits."""
        self._failure = failure
        self._over.set()


class Judges:
    """A few processes that judge, and whose turn it is.

    A client has one judgement at a time, and those who wait take turns. One that needs longer than `seconds`
    ends without its missing verdicts, and its process is replaced; all have less while others wait.
    """

    def __init__(self, seconds: float = 10.0, processes: int = 2) -> None:
        """seconds: for all of one question's answers by one model, imports not counted."""
        self.seconds, self.processes = seconds, processes
        self._pool = new_pool([*GRADERS.values(), FORMAT.reward], processes + _SPARE, grade)
        self._turn = threading.Condition()
        self._waiting: list[Judgement] = []
        self._running: list[Judgement] = []
        self._turns: Turns[Judgement] = Turns()
        self._started = False
        self._closed = False

    def warm(self) -> None:
        """Start the processes in the background, for their first judgement not to wait for imports."""
        leave_if_imported_by_a_worker()
        with self._turn:
            if self._started or self._closed:
                return
            self._started = True
        for number in range(self.processes):
            in_thread(f"judge {number + 1}", self._serve)
        with contextlib.suppress(BrokenProcessPool):  # told with the first judgement
            self._pool.schedule(_ready)

    def judge(self, client: Client, question: Question, steps: Sequence[Step]) -> Judgement:
        """Begin to judge when it is the client's turn."""
        self.warm()
        judgement = Judgement(client, question, steps)
        with self._turn:
            self._waiting.append(judgement)
            self._turns.add(client, [judgement])
            self._turn.notify_all()
        return judgement

    def stop(self, session: str) -> None:
        """End what a visitor has running or waiting."""
        with self._turn:
            own = [one for one in (*self._waiting, *self._running) if one.client.session == session]
        for judgement in own:
            judgement.cancel()

    def close(self) -> None:
        """End everything, so that the program can."""
        with self._turn:
            self._closed = True
            own = [*self._waiting, *self._running]
            self._turn.notify_all()
        for judgement in own:
            judgement.cancel()
        self._pool.end()

    def _serve(self) -> None:
        """A thread for each process: judge what comes next, until the program ends."""
        while self._served():
            pass

    def _served(self) -> bool:
        """Judge what comes next; False once all is closed.

        A function of its own: a variable of the loop would hold a judgement, and its image, until the next.
        """
        judgement = self._next()
        if judgement is None:
            return False
        try:
            self._judge(judgement)
        except BaseException as failure:  # a bug: raised where the verdicts are waited for
            judgement.end(failure)
        finally:
            self._done(judgement)
        return True

    def _next(self) -> Judgement | None:
        """Whose turn it is, taken off the list; None once all is closed."""
        with self._turn:
            while not self._closed:
                if (judgement := self._take()) is not None:
                    self._waiting.remove(judgement)
                    self._running.append(judgement)
                    return judgement
                self._turn.wait()
        return None

    def _take(self) -> Judgement | None:
        """The first in turn whose client has none at work; the others keep waiting."""
        busy = [one.client for one in self._running]
        passed_over = []
        while (judgement := self._turns.take()) is not None and judgement.client in busy:
            passed_over.append(judgement)
        for one in passed_over:
            self._turns.add(one.client, [one])
        return judgement

    def _done(self, judgement: Judgement) -> None:
        with self._turn:
            self._running.remove(judgement)
            self._turns.charge(judgement.client, judgement.spent)
            self._turn.notify_all()

    def _judge(self, judgement: Judgement) -> None:
        """Step after step; what one cannot find is said, and the next goes on while there is time."""
        for place, step in enumerate(judgement.steps):
            if judgement.over:
                return
            needs = step.needs(judgement.question)
            try:
                running = self._pool.schedule(step.work, needs, judgement.verdicts)
            except BrokenProcessPool:
                judgement.verdicts = _without(step, judgement.verdicts)
                continue
            limit = self._watch(judgement, running)
            if judgement.over or not running.done():
                running.cancel()  # which ends the process
                missing = ", ".join(one.what for one in judgement.steps[place:])
                judgement.cancel(f"not scored within {limit:g} s: {missing}")
            else:
                judgement.verdicts = self._result(step, running, judgement.verdicts)
        judgement.end()

    def _watch(self, judgement: Judgement, running: Running[Any]) -> float:
        """Wait until a step ends, is wanted no more, or exceeds the limit, in seconds, which is returned."""
        last, limit = time.monotonic(), self._limit(judgement)
        while not (judgement.over or judgement.spent > limit or running.wait(_LOOK)):
            now = time.monotonic()
            judgement.spent += now - last if running.running() else 0.0  # a new process imports before
            last, limit = now, self._limit(judgement)
        return limit

    def _limit(self, judgement: Judgement) -> float:
        """Seconds that a judgement has, as things are."""
        with self._turn:
            others = any(one.client != judgement.client and not one.over for one in self._waiting)
        return min(self.seconds, _SHARED) if others else self.seconds

    def _result(self, step: Step, running: Running[Any], before: list[Verdict]) -> list[Verdict]:
        try:
            verdicts: list[Verdict] = running.result()
        except ProcessExpired:
            return with_problem(before, f"not scored: {step.what}: the process ended, perhaps out of memory")
        except BrokenProcessPool:
            return _without(step, before)
        except GpgError as error:
            return with_problem(before, f"not scored: {step.what}: {error}")
        return verdicts


def _without(step: Step, before: list[Verdict]) -> list[Verdict]:
    return with_problem(before, f"not scored: {step.what}: no process for it could start, or it is gone")


def _ready() -> None:
    """In a worker, as soon as it can work."""
