"""What runs beside the device changes nothing but the time."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gpg_vl.config import OptimConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.errors import DataError, RewardError
from gpg_vl.options import to_yaml
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rollout.answering import Answered
from gpg_vl.runtime.parallel import World
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.ahead import QuestionReader, ScoringAhead, own_rows, worker_count
from gpg_vl.training.train import train
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of
from tests.support.training import metrics, same

SAMPLE = Sample("q", "task", "?", "(A)", "choice", choices=("x", "y"))


def children() -> set[int]:
    """Process ids, those of other tests' leftovers among them."""
    return {process.pid for process in psutil.Process().children()}


def workers_since(before: set[int]) -> list[int]:
    """Those of the children that came later which are workers."""
    later = [process for process in psutil.Process().children() if process.pid not in before]
    return [process.pid for process in later if "spawn_main" in " ".join(process.cmdline())]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_worker_processes_give_the_same_questions(policy, scenes_folder, number):
    """Whatever a scheduler sends to all processes of a job while they start: the trainer decides."""
    data, encoder = PreparedDataset.open([str(scenes_folder)]), encoder_of(policy)
    sampler = Sampler(len(data), seed=3)
    apart = QuestionReader(data, encoder, sampler.upcoming(), workers=0)
    before, state = children(), torch.get_rng_state()
    with QuestionReader(data, encoder, sampler.upcoming(), workers=1) as ahead:
        for size in (3, 5):
            rows = sampler.draw(size)
            reading = threading.Thread(target=send_to_new_workers, args=(before, number))
            reading.start()
            for one, other in zip(ahead.take(rows), apart.take(rows), strict=True):
                assert one.sample.id == other.sample.id
                assert one.sample.images[0].tobytes() == other.sample.images[0].tobytes()
                for name, value in vars(other.prompt).items():
                    own = getattr(one.prompt, name)
                    assert torch.equal(own, value) if isinstance(value, torch.Tensor) else own == value
            reading.join()
        with pytest.raises(RuntimeError, match="was read ahead"):
            ahead.take([len(data) - 1, len(data) - 1])
    assert not workers_since(before)
    assert torch.equal(torch.get_rng_state(), state)  # else a resumed run would go on with other draws


def send_to_new_workers(before: set[int], number: int) -> None:
    """From another process: a signal of one's own is no test of what a scheduler does."""
    give_up = time.monotonic() + 60
    while not (workers := workers_since(before)):
        assert time.monotonic() < give_up, "no worker to send it to"
        time.sleep(0.05)
    for worker in workers:
        subprocess.run(["kill", f"-{int(number)}", str(worker)], check=True)


def test_a_mistake_in_the_data_reads_like_one_without_workers(policy, scene_samples, tmp_path):
    write_prepared(scene_samples[:2], tmp_path / "d", source="", converter="scenes", version="1")
    (shard,) = (tmp_path / "d").glob("data-*.parquet")
    rows = [row | {"question": "<|image_pad|>?"} for row in pq.read_table(shard).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(shard)), shard)
    data, encoder = PreparedDataset.open([str(tmp_path / "d")]), encoder_of(policy)
    messages = []
    for workers in (0, 1):
        with (
            QuestionReader(data, encoder, iter([0, 1]), workers) as reader,
            pytest.raises(DataError) as raised,
        ):
            reader.take([0, 1])
        messages.append(str(raised.value))
    assert messages[0] == messages[1] and "special token" in messages[0]


def test_workers_end_with_a_run_that_fails(config, tmp_path):
    (tmp_path / "own.py").write_text(
        "from gpg_vl.registry import reward\n"
        "@reward('fails')\n"
        "def fails(completion, sample):\n    raise KeyError('a bug')\n"
    )
    data = replace(config.data, workers=1)
    before = children()
    with pytest.raises(RewardError, match="a bug") as raised:
        train(replace(config, data=data, rewards={f"{tmp_path / 'own.py'}:fails": 1.0}))
    assert not workers_since(before), raised.traceback


def test_a_run_that_reads_ahead_ends_with_the_same_weights(config, tmp_path):
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


def test_a_script_without_a_main_guard_is_told_so_once(config, tmp_path):
    """Each worker imports the script, which would start a run in every one of them."""
    file, script = tmp_path / "run.yaml", tmp_path / "script.py"
    file.write_text(to_yaml(replace(config, data=replace(config.data, workers=2))))
    script.write_text(f"""
from gpg_vl.config import TrainConfig
from gpg_vl.options import load_config
from gpg_vl.training.train import train

train(load_config(TrainConfig, ["--config", {str(file)!r}]))
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    said = done.stderr.rstrip().splitlines()[-1]
    assert "ConfigurationError: data.workers 2" in said and '`if __name__ == "__main__":`' in said
    assert done.stderr.count("__main__") == 1 and "in use by another run" not in done.stderr


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
