"""What a log file gets of long work: lines by time, whole and plain."""

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from gpg_vl.runtime.progress import EVERY, ProgressBar, RowBar, waiting


class Log(io.StringIO):
    """A file that no terminal reads, and a clock beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    @property
    def now(self) -> Callable[[], float]:
        return lambda: self.seconds

    @property
    def console(self) -> Console:
        return Console(file=self, width=80)

    @property
    def lines(self) -> list[str]:
        assert self.getvalue() == "" or self.getvalue().endswith("\n")
        return self.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def test_steps_are_said_at_once_then_by_time_and_at_the_end(log):
    with ProgressBar("train", 100, console=log.console, now=log.now) as bar:
        for done in range(1, 101):
            log.seconds += 4.0
            bar.advance(done, ["reward 0.50", "900 tok/s"])
            if done == 1:
                assert log.lines == ["train 1/100 reward 0.50 900 tok/s, 7 min left"]
    said = [int(line.split()[1].split("/")[0]) for line in log.lines]
    assert said == [1, *range(9, 100, 8), 100]  # 8 steps are the first to take 30 seconds
    assert log.lines[1] == "train 9/100 reward 0.50 900 tok/s, 6 min left"
    assert log.lines[-1] == "train 100/100 reward 0.50 900 tok/s"


def test_slow_steps_are_all_said(log):
    with ProgressBar("train", 3750, console=log.console, now=log.now) as bar:
        for done in (1, 2, 3):
            log.seconds += EVERY
            bar.advance(done)
    assert log.lines == [f"train {done}/3750, 31 h 14 min left" for done in (1, 2, 3)]


def test_work_that_ends_early_says_how_far_it_came(log):
    with ProgressBar("sft", 50, console=log.console, now=log.now) as bar:
        for done in (1, 2, 3):
            log.seconds += 1.0
            bar.advance(done, [f"loss {done}"])
    assert log.lines == ["sft 1/50 loss 1, 49 s left", "sft 3/50 loss 3, 47 s left"]


def test_a_resumed_run_goes_by_its_own_pace(log):
    with ProgressBar("train", 20, 10, console=log.console, now=log.now) as bar:
        log.seconds = 2.0
        bar.advance(11)
    assert log.lines == ["train 11/20, 18 s left"]


def test_an_evaluation_between_steps_is_not_of_their_pace(log):
    with ProgressBar("train", 10, console=log.console, now=log.now) as bar:
        with bar.paused():
            log.seconds = 500.0
        log.seconds += 2.0
        bar.advance(1)
    assert log.lines == ["train 1/10, 18 s left"]


def test_what_has_not_begun_has_no_pace(log):
    with ProgressBar("evaluate", 300, console=log.console, now=log.now) as bar:
        bar.advance(0)
    assert log.lines == ["evaluate 0/300"]


def test_rows_of_known_and_unknown_number(log):
    with RowBar("prepare", 5000, log.console, now=log.now) as bar:
        for number in range(1, 5001):
            log.seconds += 0.01
            bar.advance(number, number // 1000)
    assert log.lines == [
        "prepare 100/5,000 rows, 100 rows/s",
        "prepare 3,100/5,000 rows, 3 skipped, 100 rows/s",
        "prepare 5,000/5,000 rows, 5 skipped, 100 rows/s",
    ]
    other = Log()
    with RowBar("prepare", console=other.console, now=other.now) as bar:
        other.seconds = 2.0
        bar.advance(7, 0)
    assert other.lines == ["prepare 7 rows, 4 rows/s"]


def test_rows_of_a_moment_are_not_worth_a_line(log):
    with RowBar("prepare", 5, log.console, now=log.now) as bar:
        log.seconds = 0.9
        bar.advance(5, 0)
    assert log.lines == []


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_gets_no_control_characters(log, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with ProgressBar("train", 2, console=log.console, now=log.now) as bar:
        bar.advance(1, ["reward 0.50"])
        bar.say("step 1: reward 'my.py:smile:' [/red] could grade no group")
    with RowBar("prepare", 2, log.console, now=log.now) as rows:
        log.seconds = 4.0
        rows.advance(2, 0)
    assert log.lines == [
        "train 1/2 reward 0.50",
        "step 1: reward 'my.py:smile:' [/red] could grade no group",
        "prepare 2/2 rows, 0 rows/s",
    ]
    assert all(character.isprintable() or character == "\n" for character in log.getvalue())


def test_lines_reach_the_file_at_once(tmp_path):
    path = tmp_path / "log"
    with path.open("w") as file, ProgressBar("train", 5, console=Console(file=file)) as bar:
        bar.advance(1)
        assert path.read_text().startswith("train 1/5")


def test_a_quiet_process_says_nothing(capsys):
    with ProgressBar("train", 2, quiet=True) as bar:
        bar.advance(1)
        bar.say("news")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_and_no_lines():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with ProgressBar("train", 2, console=Console(file=screen, width=80)) as bar:
        bar.advance(1, ["reward [0.5]"])
    assert "reward [0.5]" in screen.getvalue() and "1/2" in screen.getvalue()
    assert "train 1/2" not in screen.getvalue()


def test_work_that_says_nothing_is_spoken_for(capsys):
    seconds = iter([0.0, 30.0, 60.0, 90.0])
    said = ""
    with waiting("it compiles", every=0.01, now=lambda: next(seconds, 120.0)):
        deadline = time.monotonic() + 20
        while said.count("\n") < 4 and time.monotonic() < deadline:
            said += capsys.readouterr().err
    assert said.splitlines()[:4] == [
        "gpg-vl: it compiles",
        "gpg-vl: still at it, 30 s so far",
        "gpg-vl: still at it, 60 s so far",
        "gpg-vl: still at it, 2 min so far",
    ]
    assert capsys.readouterr().err.count("\n") <= 1 and not capsys.readouterr().err  # and no longer
