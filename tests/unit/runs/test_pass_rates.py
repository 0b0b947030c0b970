"""Pass rates out of a run's rollouts, and what records are called."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpg_vl.data.difficulty import PassRate
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.manifest import content_hash
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.runs.pass_rates import model_step, record_name, rollout_rates
from gpg_vl.types import Sample
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group, write_step


def question(id, task="t", gold="(A)"):
    return Sample(id, task, f"{id}?", gold, "choice", ("x", "y"))


@pytest.fixture
def folder(tmp_path):
    rows = [question("a"), question("b"), question("c"), question("other", gold="(B)")]
    write_prepared(rows, tmp_path / "set", source="", converter="c", version="1")
    return str(tmp_path / "set")


@pytest.fixture
def run(tmp_path):
    """`a` is asked in both steps, `b` in two groups of the first; two others are of other sets."""
    place = tmp_path / "run" / "rollouts"
    first = [
        sampled_group(question("a"), [RIGHT, RIGHT, RIGHT]),
        sampled_group(question("b"), [RIGHT, WRONG, BAD]),
        sampled_group(question("b"), [BAD, BAD, BAD], round=1),
    ]
    foreign = [sampled_group(one, [RIGHT, RIGHT]) for one in (question("other"), question("c", "u"))]
    write_step(place / "step_000003.parquet", first)
    write_step(place / "step_000012.parquet", [sampled_group(question("a"), [WRONG, RIGHT]), *foreign])
    return tmp_path / "run"


def test_the_last_step_that_asked_a_question_counts(run, folder):
    assert rollout_rates(run, folder) == {"a": PassRate(1, 2, 12), "b": PassRate(1, 6, 3)}


def test_another_reward_can_say_what_is_right(run, folder):
    """By `format`, RIGHT alone is right: WRONG has no thought."""
    assert rollout_rates(run, folder, "format") == {"a": PassRate(1, 2, 12), "b": PassRate(1, 6, 3)}
    with pytest.raises(DataError, match=r"no answer in .* was graded by the reward 'iou'"):
        rollout_rates(run, folder, "iou")


def rewarded(path, scores):
    """The same rollouts with other scores."""
    table = pq.read_table(path)
    column = pa.array([json.dumps(one) for one in scores])
    pq.write_table(table.set_column(table.schema.get_field_index("rewards"), "rewards", column), path)


def test_holes_are_no_answers_and_a_half_is_right(tmp_path, folder):
    path = tmp_path / "run" / "rollouts" / "step_000001.parquet"
    write_step(path, [sampled_group(question(id), [RIGHT] * 4) for id in "ab"])
    rewarded(path, [{"iou": 0.5}, {"iou": 0.49}, {"iou": None}, {}, *[{"iou": None}] * 4])
    assert rollout_rates(tmp_path / "run", folder) == {"a": PassRate(1, 2, 1)}


def test_several_rewards_or_none_that_judge_are_told(tmp_path, folder):
    path = tmp_path / "run" / "rollouts" / "step_000001.parquet"
    write_step(path, [sampled_group(question("a"), [RIGHT, RIGHT])])
    for scores, count in (({"choice": 1, "iou": 0, "format": 1}, 2), ({"format": 1}, 0)):
        rewarded(path, [scores] * 2)
        with pytest.raises(ConfigurationError, match=rf"{count} of the run's rewards .* with --reward"):
            rollout_rates(tmp_path / "run", folder)
    rewarded(path, [{"gone.py:mine": 1}] * 2)
    with pytest.raises(ConfigurationError, match=r"gone\.py.*--reward says which reward"):
        rollout_rates(tmp_path / "run", folder)
    assert rollout_rates(tmp_path / "run", folder, "gone.py:mine") == {"a": PassRate(2, 2, 1)}


def test_another_set_and_no_run_are_told(run, tmp_path):
    rows = [question("a", gold="(B)"), question("z")]
    write_prepared(rows, tmp_path / "wrong", source="", converter="c", version="1")
    with pytest.raises(DataError, match=r"asked none of the questions in .*wrong': name a folder"):
        rollout_rates(run, str(tmp_path / "wrong"))
    with pytest.raises(DataError, match="name a run folder of `gpg-vl train`"):
        rollout_rates(tmp_path, str(tmp_path / "wrong"))


def test_a_set_that_was_prepared_anew_is_refused(run, folder, tmp_path):
    """Ids and answers may be the same: lines of a file, choices."""
    then = content_hash(folder)
    (run / "environment.json").write_text(json.dumps({"data": {folder: then}}))
    assert set(rollout_rates(run, folder)) == {"a", "b"}
    shutil.rmtree(folder)
    write_prepared(
        [replace(question("a"), question="z?")], Path(folder), source="", converter="c", version="1"
    )
    with pytest.raises(DataError, match=r"set' was prepared anew since .*run' was trained on it"):
        rollout_rates(run, folder)


def test_what_two_sets_of_a_run_have_alike_is_nobodys(run, folder, tmp_path):
    """Files of the same name give the same ids, and choices the same answers."""
    write_prepared([question("a")], tmp_path / "twin", source="", converter="c", version="1")
    (run / "config.yaml").write_text(json.dumps({"data": {"train": [folder, str(tmp_path / "twin")]}}))
    assert rollout_rates(run, folder) == {"b": PassRate(1, 6, 3)}
    (run / "config.yaml").write_text(json.dumps({"data": {"train": [folder, folder]}}))
    assert set(rollout_rates(run, folder)) == {"a", "b"}
    shutil.copytree(folder, tmp_path / "moved")
    assert set(rollout_rates(run, str(tmp_path / "moved"))) == {"a", "b"}


def test_rewards_of_another_sets_route_do_not_matter(tmp_path, folder):
    path = tmp_path / "run" / "rollouts" / "step_000001.parquet"
    write_step(path, [sampled_group(one, [RIGHT, WRONG]) for one in (question("a"), question("z", "u"))])
    rewarded(path, [{"choice": 1}, {"choice": 0}, {"format": 1}, {"format": 1}])
    assert rollout_rates(tmp_path / "run", folder) == {"a": PassRate(1, 2, 1)}


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_damaged_rollouts_are_told(run, folder, content):
    path = run / "rollouts" / "step_000012.parquet"
    if content is None:
        rewarded(path, [["a"]] * 6)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"step_000012\.parquet' holds no rollouts, or is damaged"):
        rollout_rates(run, folder)


def test_names_and_steps(tmp_path):
    checkpoint = str(tmp_path / "geo" / "checkpoints" / "step_000120" / "model")
    assert (record_name(checkpoint), model_step(checkpoint)) == ("geo_step_000120", 120)
    assert (record_name("org/Some-Model_2.5"), model_step("org/Some-Model_2.5")) == ("Some-Model_2.5", 0)
    assert record_name(str(tmp_path / "geo") + "/") == "geo"
