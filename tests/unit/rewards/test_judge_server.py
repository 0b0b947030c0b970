"""A judge's server that is busy, down, late or odd, its key, its costs, and the replies kept of it."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.counters import taken
from gpg_vl.scoring.scorer import Scorer, check_graded
from gpg_vl.types import Sample
from tests.support.judging import JUDGE, Canned, chat, judging

ROOT = Path(__file__).parents[3]
SAMPLE = Sample("s", "t", "Which one?", "(A)", "choice", ("red", "blue"))
AT_ONCE = {"Retry-After": "0"}
BUSY = Canned(429, "too many", AT_ONCE)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    taken()


@pytest.fixture
def judge():
    with judging() as judge:
        yield judge


def entry(judge, **options):
    return {"url": judge.url, "model": "m", **options}


def score(judge, *answers, **options):
    texts = [f"<answer>{answer}</answer>" for answer in answers]
    group = [parse_completion(t, think_opened=False, token_count=1, finish_reason="eos") for t in texts]
    return Scorer({JUDGE: entry(judge, **options)}).score(SAMPLE, group)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(judge, status):
    judge.canned.extend([Canned(status, "not now", AT_ONCE)] * 2)
    assert score(judge, "(A)").total == (1.0,)
    assert judge.requests == 3 and taken()["judge/requests"] == 3


@pytest.mark.parametrize("status", [301, 400, 413, 422])
def test_what_will_not_pass_is_not_tried_again(judge, status, capsys):
    judge.canned.append(Canned(status, "a bad\nrequest"))
    scores = score(judge, "(A)", "(B)")
    assert scores.dropped == (JUDGE,) and scores.ungraded == () and judge.requests == 2
    assert taken() == {
        **{"judge/failed": 1, "judge/requests": 2},
        **{"judge/prompt_tokens": 100, "judge/completion_tokens": 7},
    }
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        f"warning: reward 'judge': {judge.url}/v1/chat/completions gave no reply, so an"
    )
    assert f"score: {status}" in warning and warning.endswith(": a bad request")


def test_retries_end_and_the_answer_has_no_score(judge):
    judge.canned.extend([BUSY] * 3)
    scores = score(judge, "(A)", retries=2)
    assert scores.dropped == (JUDGE,) and judge.requests == 3 and taken()["judge/failed"] == 1


@pytest.mark.parametrize(
    ("said", "least"),
    [
        ("1", 1.0),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True), 1.5),
        ("0", 0.0),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True), 0.0),
        ("soon", 0.2),
        ("nan", 0.2),
    ],
)
def test_a_server_says_when_to_come_back(judge, said, least):
    judge.canned.append(Canned(503, headers={"Retry-After": said() if callable(said) else said}))
    start = time.monotonic()
    assert score(judge, "(A)").total == (1.0,)
    assert least <= time.monotonic() - start < least + 10


def test_a_request_that_hangs_is_given_up_and_tried_again(judge):
    judge.canned.append(chat("Mark: 1", seconds=5.0))
    assert score(judge, "(A)", timeout=0.5).total == (1.0,)
    assert judge.requests == 2


def test_an_exceeded_deadline_is_no_score(judge):
    judge.answering.clear()
    scores = score(judge, "(A)", "(B)", deadline=0.5)
    assert scores.dropped == (JUDGE,) and scores.timeouts == {JUDGE: 2} and scores.total == (0.0, 0.0)
    with pytest.raises(
        ConfigurationError, match=r"judge' gave no answer .*: 2 exceeded the deadline\. Raise its deadline, "
    ):
        check_graded([scores])


def test_a_wait_beyond_the_deadline_says_what_the_server_said(judge, capsys):
    judge.canned.extend([Canned(429, "quota used up", {"Retry-After": "86400"})] * 2)
    assert score(judge, "(A)", deadline=0.5).timeouts == {JUDGE: 1}
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "again" in line]
    assert re.search(r"^warning: reward 'judge': http.* is asked again: 429 .*: quota used up$", warning)


def test_a_reply_that_was_cut_off_gives_no_mark(judge, capsys):
    """`Mark: 10` may have become `Mark: 1`, and what is quoted may be all that there was time for."""
    judge.canned.append(chat("Sound.\nMark: 1", ended="length"))
    assert score(judge, "(A)").dropped == (JUDGE,) and judge.requests == 1
    assert "its reply was cut off: raise max_tokens" in capsys.readouterr().err
    assert score(judge, "(A)").total == (1.0,)  # it is not kept


def test_a_reply_may_come_in_parts(judge):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Mark: 3"}]}]
    judge.canned.append(
        chat([*parts, {"type": "text", "text": "Good.\n"}, {"type": "text", "text": "Mark: 7"}])
    )
    assert score(judge, "(A)").total == (0.7,)


def test_a_server_that_is_not_there_costs_the_group_its_score(judge, capsys):
    judge.url = "http://127.0.0.1:9"  # discard: nobody listens
    assert score(judge, "(A)", retries=1).dropped == (JUDGE,)
    assert "gave no reply" in capsys.readouterr().err and taken() == {"judge/requests": 2, "judge/failed": 1}


@pytest.mark.parametrize(
    "body",
    [
        *(
            "<html>",
            "[]",
            "null",
            "{}",
            '{"choices": []}',
            '{"choices": [{}]}',
            '{"choices": [{"message": 3}]}',
        ),
        '{"choices": [{"message": {"content": 7}}]}',
        '{"error": {"message": "overloaded"}}',
        "[" * 200_000,
    ],
)
def test_a_reply_that_is_no_chat_completion_is_asked_for_again(judge, body):
    judge.canned.append(Canned(200, body))
    assert score(judge, "(A)").total == (1.0,) and judge.requests == 2


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": "many"}])
def test_servers_may_keep_their_costs_to_themselves(judge, usage):
    judge.canned.append(chat("Mark: 10", usage=usage))
    assert score(judge, "(A)").total == (1.0,) and taken() == {"judge/requests": 1}


@pytest.mark.parametrize("content", [None, "", "I would rather not say.", "Mark: 4/5"])
def test_a_reply_without_a_mark_is_no_score(judge, content, capsys):
    judge.canned.append(chat(content))
    scores = score(judge, "(A)", model=f"says {content}")
    assert scores.dropped == (JUDGE,) and taken()["judge/failed"] == 1
    assert f"says {content} gives no mark, so an answer gets no score" in capsys.readouterr().err


def test_half_a_character_stops_nothing(judge):
    judge.canned.append(chat("\ud83d Mark:\nMark: 5"))
    assert score(judge, "(A)").total == (0.5,)
    assert score(judge, "\ud83d").total == (0.0,)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_from_the_start_is_a_mistake_of_the_configuration(judge, status, monkeypatch):
    monkeypatch.setenv("GPG_VL_TEST_KEY", "sk-secret-1234\n")
    judge.canned.append(Canned(status, "no: Bearer sk-secret-1234"))
    with pytest.raises(
        ConfigurationError, match=f"^reward '{JUDGE}': the.*/completions says {status} .*: no: Bearer …$"
    ) as raised:
        score(judge, "(A)", key_env="GPG_VL_TEST_KEY")
    assert "secret" not in str(raised.value) and judge.keys == ["Bearer sk-secret-1234"]


def test_a_key_that_a_server_quotes_as_json_is_not_shown(judge, monkeypatch):
    monkeypatch.setenv("GPG_VL_TEST_KEY", 'sk/"secret')
    judge.canned.append(Canned(401, r'{"no": "sk\/\"secret"}'))
    with pytest.raises(ConfigurationError, match=r'\{"no": "…"\}$'):
        score(judge, "(A)", key_env="GPG_VL_TEST_KEY")


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_later_costs_its_group(judge, status):
    assert score(judge, "(B)").total == (0.0,)
    judge.canned.append(Canned(status))
    assert score(judge, "(A)").dropped == (JUDGE,) and judge.keys == [None, None]


def test_connections_are_bounded_and_used_again():
    with judging(keep_alive=True) as judge:
        judge.seconds = 0.05
        assert score(judge, *"abcdefghijkl", concurrency=3).total == (0.0,) * 12
    assert judge.requests == 12 and judge.most == 3 and judge.connections <= 3


def test_equal_answers_of_a_group_are_asked_about_once(judge):
    judge.seconds = 0.1
    assert score(judge, "(A)", "(A)", "(B)", "(A)").total == (1.0, 1.0, 0.0, 1.0)
    assert judge.requests == 2 and taken()["judge/cached"] == 2
    assert score(judge, "(A)", "(A)", cache=False).total == (1.0, 1.0)
    assert judge.requests == 4 and taken().get("judge/cached") is None


@pytest.mark.parametrize("broken", [False, True])
def test_equal_answers_share_what_became_of_the_one_that_was_asked(judge, tmp_path, broken):
    """One that failed too, and where the file is not to be had: they would be retried one after the other."""
    where = {"cache": str(tmp_path)} if broken else {}
    judge.canned.extend([BUSY] * 2)
    assert score(judge, *["(A)"] * 4, retries=1, **where).dropped == (JUDGE,)
    assert taken() == {"judge/requests": 2, "judge/failed": 4}
    assert score(judge, *["(A)"] * 4, **where).total == (1.0,) * 4
    assert judge.requests == 3 and taken()["judge/cached"] == 3


def test_any_change_of_the_request_asks_anew(judge, scene_samples):
    for options in (
        {},
        {"model": "n"},
        {"temperature": 0.5},
        {"scale": 5},
        {"rubric": "Right answer: x\n{response}"},
    ):
        score(judge, "(A)", **options)
    group = [parse_completion("x", think_opened=False, token_count=1, finish_reason="eos")]
    for options in ({}, {"images": False}, {"max_pixels": 99}):
        Scorer({JUDGE: entry(judge, **options)}).score(scene_samples[0], group)
    assert judge.requests == 8 and "judge/cached" not in taken()
    with judging() as other:
        assert score(other, "(A)").total == (1.0,) and other.requests == 1


SCORES = """
import sys
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.scoring.counters import counts_text, taken
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample
group = [parse_completion(f"<answer>{n}</answer>", think_opened=False, token_count=1, finish_reason="eos")
         for n in range(int(sys.argv[2]))]
sample = Sample("s", "t", "Which one?", "0", "number")
print(Scorer({"gpg_vl.rewards.judge:judge": {"url": sys.argv[1], "model": "m"}}).score(sample, group).total)
print(counts_text(taken()))
"""


def test_processes_share_the_replies(judge):
    """Several at once, on a file that none of them finds there, and one behind them that asks nothing."""
    words = [sys.executable, "-c", SCORES, judge.url, "20"]
    pipes = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": {**os.environ},
        "cwd": ROOT,
    }
    started = [subprocess.Popen(words, **pipes) for _ in range(3)]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert out.startswith("(1.0, 0.0, 0.0,") and err == ""
    asked = judge.requests
    assert 20 <= asked <= 60
    last = subprocess.run(words, **pipes, timeout=120)
    assert last.stdout.splitlines()[1] == "counted: judge/cached 20" and judge.requests == asked


def test_a_file_of_ones_own(judge, tmp_path):
    for _ in range(2):
        assert score(judge, "(A)", cache=str(tmp_path / "own" / "replies.sqlite")).total == (1.0,)
    assert judge.requests == 1 and not (tmp_path / "cache").exists()
    with sqlite3.connect(tmp_path / "own" / "replies.sqlite") as connection:
        [(request, reply)] = connection.execute("SELECT * FROM replies").fetchall()
    connection.close()
    assert len(request) == 64 and reply == "Mark: 10"


@pytest.mark.parametrize("harm", ["text", "middle", "folder", "no folder"])
def test_a_broken_cache_is_told_of_and_costs_no_score(judge, harm, tmp_path, capsys):
    path = tmp_path / harm / "replies.sqlite"
    if harm != "no folder":
        path.parent.mkdir()
    else:
        path.parent.write_text("a file where the folder should be")
    if harm == "text":
        path.write_text("this is no database " * 100)
    if harm == "folder":
        path.mkdir()
    if harm == "middle":
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TABLE replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
        )
        connection.close()
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)
    for answer in ("(A)", "(A)"):
        assert score(judge, answer, cache=str(path)).total == (1.0,)
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: the judge's cache {str(path)!r} cannot be used: ")
    assert judge.requests == 2


def test_a_cache_that_another_process_holds_is_waited_for(judge, tmp_path, capsys):
    path = tmp_path / "replies.sqlite"
    assert score(judge, "(A)", cache=str(path)).total == (1.0,)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert score(judge, "(A)", cache=str(path)).total == (1.0,)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert judge.requests == 2 and capsys.readouterr().err == ""
    assert score(judge, "(A)", cache=str(path)).total == (1.0,) and judge.requests == 2
