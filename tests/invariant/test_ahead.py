"""What runs beside the device changes nothing but the time."""

import itertools
import os
import signal
import threading
from dataclasses import replace

import psutil
import pytest
import torch

from gpg_vl.ahead import QuestionReader, ScoringAhead, own_rows, worker_count
from gpg_vl.answering import Answered
from gpg_vl.config import OptimConfig
from gpg_vl.data import PreparedDataset, Sampler
from gpg_vl.errors import RewardError
from gpg_vl.parallel import World
from gpg_vl.prompts import parse_completion
from gpg_vl.scoring import Scorer
from gpg_vl.train import train
from gpg_vl.types import Sample
from tests.conftest import encoder_of
from tests.invariant.test_training import config, metrics, same  # noqa: F401

SAMPLE = Sample("q", "task", "?", "(A)", "choice", choices=("x", "y"))


def reader_workers() -> list[psutil.Process]:
    return [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]


def test_worker_processes_give_the_same_questions(policy, scenes_folder):
    data, encoder = PreparedDataset.open([str(scenes_folder)]), encoder_of(policy)
    sampler = Sampler(len(data), seed=3)
    before = {process.pid for process in reader_workers()}
    ahead = QuestionReader(data, encoder, sampler.upcoming(), workers=2)
    for process in reader_workers():
        if process.pid not in before:
            os.kill(process.pid, signal.SIGUSR1)  # as a scheduler stops a job: the trainer decides
    apart = QuestionReader(data, encoder, sampler.upcoming(), workers=0)
    for size in (3, 5):
        rows = sampler.draw(size)
        for one, other in zip(ahead.take(rows), apart.take(rows), strict=True):
            assert one.sample.id == other.sample.id
            assert one.sample.images[0].tobytes() == other.sample.images[0].tobytes()
            for name, value in vars(other.prompt).items():
                own = getattr(one.prompt, name)
                assert torch.equal(own, value) if isinstance(value, torch.Tensor) else own == value
    with pytest.raises(AssertionError, match="another order"):
        ahead.take([len(data) - 1, len(data) - 1])
    ahead.close()


def test_a_run_that_reads_ahead_ends_with_the_same_weights(config, tmp_path):  # noqa: F811
    """A resumed one too: the position that is saved is that of the questions used, not of those read."""
    config = replace(config, optim=OptimConfig(learning_rate=1e-3))
    apart = replace(config, out=str(tmp_path / "apart"), data=replace(config.data, workers=0))
    ahead = replace(config, out=str(tmp_path / "ahead"), data=replace(config.data, workers=1))
    train(replace(ahead, run=replace(ahead.run, steps=2)))
    assert same(train(apart), train(ahead, resume="auto"))
    assert metrics(tmp_path / "apart") == metrics(tmp_path / "ahead")


@pytest.mark.parametrize(("size", "rounds"), [(1, 4), (2, 4), (3, 4), (2, 3)])
def test_rows_are_those_that_come_to_a_process(size, rounds):
    """Rounds of any size, dealt out as `World.own` does."""
    for rank in range(size):
        world, sampler = World(rank, size), Sampler(10, seed=0)
        sampler.draw(2 * rounds)
        ahead = own_rows(sampler, world, rounds)
        drawn = [world.own(sampler.draw(rounds)) for _ in range(5)]
        expected = [row for own in drawn for row in own]
        assert list(itertools.islice(ahead, len(expected))) == expected


def test_workers_by_default_are_none_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert worker_count(None) == 0 and worker_count(3) == 3


def answered(*texts: str) -> Answered:
    parsed = [parse_completion(t, think_opened=False, token_count=1, finish_reason="eos") for t in texts]
    return Answered(SAMPLE, None, (), tuple(parsed))  # type: ignore[arg-type]


def test_scores_come_by_place_from_another_thread(tmp_path):
    (tmp_path / "own.py").write_text(
        "import threading\n"
        "from gpg_vl.registry import reward\n"
        "seen = []\n"
        "@reward('length_of', kind='shaping')\n"
        "def length_of(completion, sample):\n"
        "    if completion.text == 'bug': raise KeyError('a bug')\n"
        "    if completion.text == 'thread': return float(threading.get_ident())\n"
        "    return float(len(completion.text))\n"
    )
    scorer = Scorer({f"{tmp_path / 'own.py'}:length_of": 1.0})
    with ScoringAhead(scorer) as scoring:
        for place, texts in ((2, ("a", "bb")), (0, ("ccc", "thread")), (1, ("", "d"))):
            scoring.submit(place, answered(*texts))
        scores = [group.total for group in scoring.results()]
    assert scores[1:] == [(0.0, 1.0), (1.0, 2.0)]
    assert scores[0][0] == 3.0 and scores[0][1] != float(threading.get_ident())
    with ScoringAhead(scorer) as scoring:
        scoring.submit(0, answered("bug"))
        with pytest.raises(RewardError, match="a bug"):
            scoring.results()
