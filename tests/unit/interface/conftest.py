"""One small run, trained from Python, that several tests look at."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

import gpg_vl
from tests.support.letters import distinct

SMALL = {
    "rollout": {"group_size": 4, "max_new_tokens": 6},
    "algorithm": {"questions_per_step": 2},
    "eval": {"max_new_tokens": 6, "limit": 4},
}
"""Sections that keep a run on a tiny model short."""


@dataclass
class Follower:
    """A callback that remembers what it saw."""

    seen: list = field(default_factory=list)

    def on_groups(self, step, groups):
        self.seen.append(("groups", step, len(groups)))

    def on_step(self, step, metrics):
        self.seen.append(("step", step, metrics["reward/mean"]))

    def on_save(self, step, model):
        self.seen.append(("save", step, model))

    def on_evaluation(self, step, evaluation):
        self.seen.append(("evaluation", step, evaluation["totals"]["accuracy"]["count"]))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, scenes_folder: Path):
    """A run of three steps, and what followed it."""
    follower = Follower()
    run = gpg_vl.train(
        model=tiny_folder,
        data=scenes_folder,
        validation=scenes_folder,
        rewards=[distinct],
        steps=3,
        out=tmp_path_factory.mktemp("runs") / "first",
        callbacks=[follower],
        run={"save_every": 2},
        **SMALL,
    )
    return run, follower
