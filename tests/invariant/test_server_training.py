"""Runs whose answers come from a server at another address: what it says is the trainer's own, step by step,
and each answer counts once, also where the server is killed and comes back."""

import json
import os
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from gpg_vl.config import TrainConfig
from gpg_vl.model.loading import load_policy
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.training.train import train
from tests.support.fake_vllm.server import Process, enter
from tests.support.launched import finish, start
from tests.support.server_engines import asking, learn, own, tokens
from tests.support.training import metrics

ELSEWHERE = "127.0.0.2"
"""Another node's address, as far as one machine has such."""
HERE = "127.0.0.1"


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that outlives the trainers of this file, as servers do."""
    log = tmp_path_factory.mktemp("server") / "log"
    process = Process(tiny_folder, ELSEWHERE, free_port(ELSEWHERE), log)
    yield process.wait()
    process.kill()


def on_server(config: TrainConfig, server: Process, name: str = "", **run: int) -> TrainConfig:
    """The configuration with its answers from a server."""
    rollout = replace(config.rollout, engine="server", server=ServerConfig(url=[server.url], connections=2))
    out = str(Path(config.out).with_name(name)) if name else config.out
    return replace(config, rollout=rollout, run=replace(config.run, **run), out=out)


def assert_exact(config: TrainConfig) -> None:
    """Sampler and trainer agree in each step, and each question was answered once, by the step's weights."""
    lines = [json.loads(line) for line in Path(config.out, "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == config.run.steps
    for line in lines:
        assert line["logprob_gap/max"] < 1e-5
        assert line["seconds/sync"] > 0
    assert any(line["sync_bytes"] > 0 for line in lines)
    for step in range(1, config.run.steps + 1):
        rows = pq.read_table(Path(config.out, f"rollouts/step_{step:06d}.parquet")).to_pylist()
        groups = Counter(row["group"] for row in rows)
        assert set(groups.values()) == {config.rollout.group_size}
        assert len({(row["group"], row["answer_index"]) for row in rows}) == len(rows)
        assert {row["version"] for row in rows} == {step - 1}


def test_a_run_on_a_server_goes_on_where_it_stopped(config, server):
    whole = on_server(config, server, "whole", steps=3)
    train(whole)
    assert_exact(whole)
    assert server.ask()["trainer"] == HERE
    branch = on_server(config, server, "branch", steps=3)
    train(branch, resume=f"{whole.out}/checkpoints/step_000001")
    assert metrics(Path(branch.out)) == metrics(Path(whole.out))[1:]


def test_adapters_train_on_a_server(config, server):
    adapted = on_server(replace(config, model=replace(config.model, lora_rank=2)), server, steps=2)
    train(adapted)
    assert_exact(adapted)


def test_a_killed_server_comes_back_and_nothing_counts_twice(config, server, tiny_folder, tmp_path, capsys):
    calm = on_server(config, server, "calm", steps=3)
    train(calm)
    open_server = partial(Process, tiny_folder, ELSEWHERE, free_port(ELSEWHERE))
    first = open_server(tmp_path / "first", slow=0.2).wait()
    second: list[Process] = []

    def kill_amid_the_second_step() -> None:
        asked = config.algorithm.questions_per_step + config.eval.limit
        while first.ask()["answered"] < asked + 1:
            pass
        first.kill()
        second.append(open_server(tmp_path / "second"))

    killer = threading.Thread(target=kill_amid_the_second_step)
    killer.start()
    disturbed = on_server(config, first, "disturbed", steps=3)
    try:
        train(disturbed)
    finally:
        killer.join(60)
        report = second[0].ask()
        second[0].kill()
    assert_exact(disturbed)
    assert metrics(Path(disturbed.out)) == metrics(Path(calm.out))
    assert report["updates"] >= 2 and report["answered"] > 0
    assert f"{first.url} is gone" in capsys.readouterr().err


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """Two networks of their own, joined by a cable: 10.213.7.1 and 10.213.7.2."""
    names = [f"gpg-{os.getpid()}-{end}" for end in (1, 2)]
    commands = [["netns", "add", name] for name in names]
    commands.append(
        ["link", "add", "gpg1", "netns", names[0], "type", "veth", "peer", "gpg2", "netns", names[1]]
    )
    for end, name in enumerate(names, 1):
        commands.append(["-n", name, "address", "add", f"10.213.7.{end}/24", "dev", f"gpg{end}"])
        commands += [["-n", name, "link", "set", device, "up"] for device in (f"gpg{end}", "lo")]
    try:
        for words in commands:
            done = (
                subprocess.run(["ip", *words], capture_output=True, text=True) if shutil.which("ip") else None
            )
            if done is None or done.returncode:
                pytest.skip(f"networks need ip and root: {done.stderr.strip() if done else 'no ip'}")
        yield names[0], names[1]
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def test_trainer_and_server_may_be_nodes_of_their_own(networks, tiny_folder, scene_samples, tmp_path):
    process = Process(tiny_folder, "10.213.7.2", 8000, tmp_path / "log", network=networks[1])
    policy, found = load_policy(str(tiny_folder)), []
    learn(policy)

    def trainer() -> None:
        enter(networks[0])
        process.wait()
        with asking(policy, process.url) as answerer:
            answerer.engine.sync(0)
            found.append(tokens(answerer.answer(scene_samples[:3], 2, Sampling(8, temperature=0.0))))
        found.append(process.ask()["trainer"])

    thread = threading.Thread(target=trainer)
    thread.start()
    thread.join()
    process.kill()
    expected = own(policy).answer(scene_samples[:3], 2, Sampling(8, temperature=0.0))
    assert found == [tokens(expected), "10.213.7.1"]


def test_two_processes_on_a_server_train_like_one(mixed_training, server, tmp_path):
    """Both evaluate and train on the same weights, which are sent once."""
    data = replace(mixed_training.data, validation=mixed_training.data.train)
    config = replace(mixed_training, data=data, eval=replace(mixed_training.eval, limit=3, max_new_tokens=4))
    one = on_server(config, server, steps=2)
    expected = load_file(train(one) / "model.safetensors")
    two = on_server(config, server, "two", steps=2)
    finish(two, start(two, "ddp"))
    assert_exact(two)
    trained = load_file(Path(two.out, "checkpoints/step_000002/model/model.safetensors"))
    for name, weight in expected.items():
        assert (trained[name] - weight).abs().max() < 1e-6, name
    for ours, theirs in zip(metrics(Path(two.out)), metrics(Path(one.out)), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
