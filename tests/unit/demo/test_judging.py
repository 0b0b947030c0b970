"""Judging in processes: in time, in turn, and no longer than somebody waits."""

import time
import weakref
from collections.abc import Iterator

import pytest
from PIL import Image

from gpg_vl.demo.service.clients import Client
from gpg_vl.demo.service.judging import Judgement, Judges
from gpg_vl.demo.service.rewards import Rewards, operator_rewards
from gpg_vl.demo.service.verdicts import Question, steps, vote
from tests.support.judged import TOWER, question
from tests.support.waiting import until

ANNA, BERT, CARL = (Client(f"10.0.0.{number}", name) for number, name in enumerate(("anna", "bert", "carl")))
LONG = 300.0
"""Seconds that hostile answers would have: a test that passes sooner shows that somebody ended them."""
QUICK = question("math", "1/2", "0.5", "3", gold="0.5")
ENDLESS = question("math", "5", "5.0", gold=TOWER)


@pytest.fixture(scope="module")
def judges() -> Iterator[Judges]:
    judges = Judges(LONG)
    finished(begin(judges, ANNA, QUICK))  # its processes import first
    yield judges
    judges.close()


def begin(judges: Judges, client: Client, asked: Question, rewards: Rewards | None = None) -> Judgement:
    return judges.judge(client, asked, steps(asked, rewards or Rewards()))


def finished(judgement: Judgement, seconds: float = LONG) -> Judgement:
    judgement.wait(seconds)
    assert judgement.over
    return judgement


def test_verdicts_come_from_another_process(judges):
    judgement = begin(judges, ANNA, QUICK)
    assert [one.answer for one in judgement.verdicts] == ["1/2", "0.5", "3"]  # at once
    verdicts = finished(judgement).verdicts
    assert [one.right for one in verdicts] == [True, True, False]
    assert (vote(verdicts).answer, vote(verdicts).count) == ("1/2", 2)


def test_what_takes_too_long_is_told_and_the_answers_and_the_vote_stay(judges, monkeypatch):
    monkeypatch.setattr(judges, "seconds", 1.0)
    verdicts = finished(begin(judges, ANNA, ENDLESS)).verdicts
    assert [one.right for one in verdicts] == [None, None] and vote(verdicts).count == 2
    assert {one.problem for one in verdicts} == {"not scored within 1 s: right or wrong"}
    monkeypatch.undo()
    assert finished(begin(judges, ANNA, QUICK)).verdicts[0].right is True


def test_one_visitor_cannot_hold_the_others(judges):
    hostile = [begin(judges, ANNA, ENDLESS) for _ in range(4)]
    assert finished(begin(judges, BERT, QUICK)).verdicts[0].right is True
    assert not hostile[1].over
    judges.stop("anna")
    assert all(one.over for one in hostile) and "stopped" in hostile[3].verdicts[0].problem


def test_while_others_wait_all_have_less(judges):
    hostile = [begin(judges, client, ENDLESS) for client in (ANNA, BERT)]
    until(lambda: all(one.spent for one in hostile))  # both are at work: nobody else is ahead of them
    patient = begin(judges, CARL, QUICK)
    assert finished(patient).verdicts[0].right is True
    assert any("not scored within 2 s" in one.verdicts[0].problem for one in hostile)
    for judgement in hostile:
        judgement.cancel()


def test_whoever_leaves_frees_the_process(judges):
    leaving = [begin(judges, client, ENDLESS) for client in (ANNA, BERT)]
    time.sleep(0.3)
    for judgement in leaving:
        judgement.cancel()
    finished(begin(judges, CARL, QUICK))
    assert all("stopped" in judgement.verdicts[0].problem for judgement in leaving)


def test_a_reward_that_kills_its_process_or_raises_costs_only_its_own_scores(judges, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "def dies(completion, sample): os._exit(1)\n"
        "def fails(completion, sample): return sample.meta['nothing']\n"
        "def fine(completion, sample): return 0.25\n"
    )
    own = operator_rewards([f"{tmp_path}/mine.py:{name}" for name in ("dies", "fails", "fine")])
    verdict = finished(begin(judges, ANNA, QUICK, Rewards(own=own))).verdicts[0]
    assert verdict.rewards == {"math": 1.0, "format": 1.0, "mine.py:fine": 0.25}
    assert "reward mine.py:dies: the process ended" in verdict.problem
    assert "in fails: KeyError: 'nothing'" in verdict.problem


def test_pixels_are_sent_only_to_rewards_that_read_them(judges, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from gpg_vl.registry import reward\n"
        "def red(completion, sample): return sample.images[0].getpixel((1, 1))[0]\n"
        "@reward(images=False)\n"
        "def blind(completion, sample): return sample.images[0].getpixel((1, 1))[0]\n"
        "@reward(images=False)\n"
        "def wide(completion, sample): return sample.images[0].width\n"
    )
    own = operator_rewards([f"{tmp_path}/mine.py:{name}" for name in ("red", "blind", "wide")])
    images = (Image.new("RGB", (30, 20), (9, 0, 0)),)
    asked = question("boxes", "[0, 0, 9, 9]", gold="[[0, 0, 31, 9]]", images=images)
    verdict = finished(begin(judges, ANNA, asked, Rewards(own=own))).verdicts[0]
    assert verdict.rewards["mine.py:red"] == 9.0 and verdict.rewards["mine.py:wide"] == 30.0
    assert "mine.py:blind" not in verdict.rewards and "with images=False: leave that out" in verdict.problem
    assert "a gold box lies outside the image of 30 × 20 pixels" in verdict.problem


def test_nothing_holds_an_image_once_its_judgement_is_over(judges):
    asked = question("choice", "(A)", gold="(A)", images=(Image.new("L", (3, 2)),))
    image = weakref.ref(asked.sample.images[0])
    judgement = finished(begin(judges, ANNA, asked))
    del asked, judgement
    deadline = time.monotonic() + 10  # its thread puts it away after the verdicts are there
    while image() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert image() is None


def test_closing_ends_what_is_open():
    judges = Judges(LONG, processes=1)
    judgement = begin(judges, ANNA, ENDLESS)
    judges.close()
    assert finished(judgement, 1).over
