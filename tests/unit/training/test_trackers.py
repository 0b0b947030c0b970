"""What trackers get: settings that runs are filtered by, and groups with their images."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gpg_vl.algorithm.advantages import group_advantages
from gpg_vl.algorithm.collect import Collection, Group
from gpg_vl.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.training.group_table import SHOWN, ShownGroup, group_table
from gpg_vl.training.trackers import Trackers, flat_settings
from gpg_vl.types import Sample
from tests.support.inputs import noise
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group


def group(number: int, texts: list[str], *, images: int = 1) -> Group:
    pictures = tuple(noise(40, 30 + n) for n in range(images))
    return sampled_group(
        Sample(f"q-{number}", "t", "Which <one>?", "(A)", "choice", ("x | y", "z"), pictures), texts
    )


def shown(*groups: Group) -> list[ShownGroup]:
    collection = Collection(groups, rounds=1)
    kept = Collection(tuple(one.without_images() for one in groups), rounds=1)  # as gathered
    own = {one.answered.sample.id: one.answered.sample for one in groups}
    advantages = group_advantages(collection.rewards).values
    return group_table(kept, advantages, lambda one: own[one.answered.sample.id])


def config(out: Path, *trackers: str) -> TrainConfig:
    return TrainConfig(
        str(out),
        ModelConfig(path="m"),
        data=DataConfig(train=["a", "b"]),
        rewards={"choice": 1.0, "my.py:own": {"weight": 0.5, "limit": 3}},
        optim=OptimConfig(learning_rate=1e-6),
        run=RunConfig(trackers=list(trackers)),  # type: ignore[arg-type]
    )


def test_settings_are_plain_values_by_dotted_names():
    flat = flat_settings(
        {"a": {"rate": 1e-6, "on": True, "off": None, "pair": (0.9, 0.99)}, "names": ["é"], "none": {}}
    )
    assert flat == {
        **{"a.rate": 1e-6, "a.on": True, "a.off": None, "a.pair": "[0.9, 0.99]"},
        **{"names": '["é"]', "none": "{}"},
    }


def test_a_table_has_valid_groups_first():
    same = [BAD, BAD, BAD]
    groups = [group(n, [RIGHT, WRONG, BAD] if n in (2, 5) else same) for n in range(6)]
    table = shown(*groups)
    assert [one.rows[0]["prompt_id"] for one in table] == ["q-2", "q-5", "q-0", "q-1"]
    assert len(table) == SHOWN
    first, second, _ = table[0].rows
    assert first == {
        **{"task": "t", "prompt_id": "q-2", "gold": "(A)", "text": RIGHT, "answer": "(A)"},
        "question": "Which <one>? Select from the following choices.\n(A) x | y\n(B) z",
        **{"reward/choice": 1.0, "reward/format": 1.0, "reward": 1.5, "advantage": 1.0, "valid": True},
    }
    assert (second["reward"], second["advantage"]) == (0.0, -0.5)


def test_images_stand_side_by_side():
    one, two, text = shown(*(group(n, [RIGHT, BAD], images=n) for n in (1, 2, 0)))
    assert text.image is None
    assert one.image.mode == "RGB" and two.image.width / two.image.height > one.image.width / one.image.height


def test_a_reward_that_graded_no_answer_leaves_its_column_empty():
    good, bad = group(0, [RIGHT, BAD]), group(1, [RIGHT, BAD])
    bad = replace(bad, scores=replace(bad.scores, by_reward={"format": bad.scores.by_reward["format"]}))
    rows = [row for one in shown(good, bad) for row in one.rows]
    assert [row["reward/choice"] for row in rows] == [1.0, 0.0, None, None]


@pytest.fixture
def events(tmp_path):
    """What TensorBoard reads of a run with two steps."""
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    with Trackers(accelerator, config(tmp_path, "tensorboard")) as trackers:
        for step in (1, 2):
            trackers.log(step, {"reward/mean": step / 2})
            trackers.log_groups(step, shown(group(0, [RIGHT, BAD]), group(1, [RIGHT, WRONG], images=0)))
    (file,) = tmp_path.rglob("events.*")  # TensorBoard follows one of a run
    events = EventAccumulator(str(file))
    events.Reload()
    return events


def test_tensorboard_filters_by_settings(events):
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["optim.learning_rate"].number_value == 1e-6
    assert found["rewards.my.py:own.limit"].number_value == 3
    assert found["data.train"].string_value == '["a", "b"]'
    assert "data.workers" not in found  # None
    assert [point.value for point in events.Scalars("reward/mean")] == [0.5, 1.0]


def test_tensorboard_shows_groups(events):
    texts = events.Tensors("groups/0/text_summary")
    assert [point.step for point in texts] == [1, 2]
    text = texts[0].tensor_proto.string_val[0].decode()
    assert text.startswith("Which &lt;one&gt;? Select from")
    assert "&lt;think&gt;a&lt;/think&gt;&lt;answer&gt;(A)&lt;/answer&gt;" in text and "| 0.75" in text
    assert [point.step for point in events.Images("groups/0")] == [1, 2]
    assert events.Tags()["images"] == ["groups/0"]  # the other one is text
    assert len(events.Tensors("groups/1/text_summary")) == 2


def test_groups_need_a_tracker():
    with pytest.raises(ConfigurationError, match=r"run\.log_groups .* run\.trackers"):
        RunConfig(log_groups=5)


SENDING = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from tests.unit.training.test_trackers import BAD, RIGHT, Trackers, config, group, shown

name, out = sys.argv[1], Path(sys.argv[2])
accelerator = Accelerator(cpu=True, log_with=name)
with Trackers(accelerator, config(out, name)) as trackers:
    for step in (1, 2):
        trackers.log(step, {"reward/mean": step / 2})
        trackers.log_groups(step, shown(group(0, [RIGHT, BAD]), group(1, [RIGHT, BAD], images=0)))
    print(json.dumps(dict(accelerator.get_tracker(name, unwrap=True).config)))
"""


def send(name: str, folder: Path) -> dict[str, Any]:
    """Send to a tracker that keeps what it gets in `folder`; the settings that it has then."""
    pytest.importorskip(name)
    own = {"HOME": str(folder), "WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
    own |= {"WANDB_DATA_DIR": str(folder), "TRACKIO_DIR": str(folder)}
    command = [sys.executable, "-c", SENDING, name, str(folder)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=os.environ | own, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def images(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.read_bytes()[1:4] == b"PNG"]


def test_wandb_gets_settings_and_a_table(tmp_path):
    assert send("wandb", tmp_path)["optim"]["learning_rate"] == 1e-6
    (table,) = tmp_path.rglob("media/table/groups_2_*.table.json")
    values = json.loads(table.read_text())
    assert values["columns"][:4] == ["image", "task", "prompt_id", "question"]
    rows = [dict(zip(values["columns"], row, strict=True)) for row in values["data"]]
    assert [row["image"] is None for row in rows] == [False, False, True, True]
    assert (rows[0]["reward"], rows[0]["advantage"], rows[0]["text"]) == (1.5, 0.75, RIGHT)
    assert len(images(tmp_path)) == 2  # one a step


def test_trackio_gets_settings_and_a_table(tmp_path):
    settings = send("trackio", tmp_path)
    assert (settings["optim.learning_rate"], settings["rewards.choice"]) == (1e-6, 1.0)
    assert len(images(tmp_path)) == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "gpg-vl.db")) as stored:
        text = "".join(str(row) for row in stored.execute("select * from metrics"))
    assert '"trackio.table"' in text and '"reward/choice"' in text and "<answer>(A)</answer>" in text
