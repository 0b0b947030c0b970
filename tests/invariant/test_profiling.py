"""A profiled run: the phases that its table and its trace name."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpg_vl.config import RunConfig, SftConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.options import parse_command
from gpg_vl.runtime.profiling import TABLE, TRACE
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft


def lines(run: Path) -> dict[str, tuple[float, float]]:
    """Calls and seconds a step by phase; inner phases behind their outer ones' names."""
    found: dict[str, tuple[float, float]] = {}
    names: list[str] = []
    table, legend = (run / "profile" / TABLE).read_text().strip().split("\n\n")
    assert "2 steps behind the first, with 2 optimizer steps" in legend
    for line in table.splitlines()[2:]:
        name, calls, seconds, _ = (cell.strip() for cell in line.strip("|").split("|"))
        names = [*names[: name.count("· ")], name.replace("· ", "")]
        found["/".join(names)] = float(calls), float(seconds)
    return found


def test_phases_of_training(config):
    run = replace(config.run, steps=3, save_every=0, profile=2)
    algorithm, evaluation = replace(config.algorithm, max_rounds=1), replace(config.eval, every=1)
    train(replace(config, run=run, algorithm=algorithm, eval=evaluation))
    found = lines(Path(config.out))
    calls = {name: calls for name, (calls, _) in found.items()}
    assert calls.pop("step/rollout/decode") == config.rollout.max_new_tokens - 1
    inner = ("rollout/prefill", "rollout/prefill/vision", "update/forward", "update/forward/vision")
    phases = ("questions", "rollout", "rewards", "update", "update/backward", "update/optimizer", *inner)
    assert calls == {"step": 1} | {f"step/{phase}": 1 for phase in phases}
    for outer, (_, whole) in found.items():
        parts = [seconds for name, (_, seconds) in found.items() if name.rpartition("/")[0] == outer]
        assert sum(parts) <= 1.01 * whole  # printed with four digits
    trace = json.loads(gzip.decompress((Path(config.out) / "profile" / TRACE).read_bytes()))
    named = [event["name"] for event in trace["traceEvents"]]
    assert named.count("gpg_vl.step") == 2


def test_phases_of_supervised_steps(config):
    run = RunConfig(steps=3, threads=1, profile=5)
    data = replace(config.data, validation=[])
    sft(SftConfig(out=config.out, batch_size=4, model=config.model, data=data, run=run))
    found = lines(Path(config.out))
    assert list(found) == ["step", "step/forward", "step/forward/vision", "step/backward", "step/optimizer"]


def test_profile_is_a_switch():
    words = ["--out", "o", "--model.path", "m", "--data.train", "d", "--algorithm.preset", "gpg"]
    assert parse_command(TrainConfig, words)[0].run.profile == 0
    assert parse_command(TrainConfig, [*words, "--profile"])[0].run.profile == 2
    assert parse_command(TrainConfig, [*words, "--profile", "--run.profile", "4"])[0].run.profile == 4
    with pytest.raises(ConfigurationError, match=r"run\.steps to 2 or more"):
        parse_command(TrainConfig, [*words, "--run.profile", "1", "--run.steps", "1"])
