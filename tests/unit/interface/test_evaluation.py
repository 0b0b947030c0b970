"""Evaluations and comparisons: the figures of the commands, in Python."""

import json

import pytest

import gpg_vl
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.evaluation.compare import comparison_table
from gpg_vl.evaluation.figures import evaluation_table
from gpg_vl.runs.files import read_evaluation

FEW = {"limit": 8, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def evaluations(trained, tiny_folder, scenes_folder):
    run, _ = trained
    model = run.model()
    return gpg_vl.evaluate(tiny_folder, scenes_folder, **FEW), gpg_vl.evaluate(model, scenes_folder, **FEW)


def test_an_evaluation_is_what_the_command_writes(evaluations, tmp_path, tiny_folder, scenes_folder):
    before, _ = evaluations
    again = gpg_vl.evaluate(str(tiny_folder), scenes_folder, out=str(tmp_path / "eval.json"), **FEW)
    written = read_evaluation(tmp_path / "eval.json")
    assert {k: v for k, v in written.items() if k != "seconds"} == {
        k: v for k, v in again.values.items() if k != "seconds"
    }
    assert again.values["items"] == before.values["items"]
    assert read_evaluation(before.save(tmp_path / "saved.json"))["totals"] == before.values["totals"]


def test_its_figures_have_intervals(evaluations):
    before, _ = evaluations
    assert before.accuracy == before["accuracy"] and before.accuracy.count == 8
    assert before.accuracy.low <= before.accuracy.mean <= before.accuracy.high
    assert sum(task.count for task in before.tasks.values()) == 8
    assert list(before.items["row"]) == list(range(8))
    assert str(before) == evaluation_table(before.values) and "8" in repr(before)
    with pytest.raises(KeyError, match="none of the totals: accuracy"):
        before["acuracy"]


def test_a_misspelt_option_names_the_nearest(tiny_folder, scenes_folder):
    with pytest.raises(ConfigurationError, match="Did you mean 'samples'"):
        gpg_vl.evaluate(tiny_folder, scenes_folder, sample=3)


def test_a_comparison_is_that_of_the_command(evaluations, tmp_path):
    before, after = evaluations
    comparison = gpg_vl.compare(before, after)
    files = [one.save(tmp_path / f"{n}.json") for n, one in enumerate(evaluations)]
    assert gpg_vl.compare(*files).values == json.loads(json.dumps(comparison.values))
    change = after.accuracy.mean - before.accuracy.mean
    assert comparison.difference.mean == pytest.approx(change) and comparison.p is not None
    right = {name: set(one.items.query("correct >= 0.5")["id"]) for name, one in zip("ab", evaluations)}  # noqa: B905
    assert set(comparison.fixed) == right["b"] - right["a"]
    assert set(comparison.broken) == right["a"] - right["b"]
    assert str(comparison) == comparison_table(comparison.values) and "points" in repr(comparison)


def test_validation_and_evaluation_of_one_model_agree(trained, scenes_folder):
    """The same questions, asked alike: not one answer differs."""
    run, _ = trained
    after = gpg_vl.evaluate(run.model(), scenes_folder, limit=4, max_new_tokens=6)
    comparison = gpg_vl.compare(run.evaluations[3], after)
    assert comparison.values["differ"] == [] and not comparison.fixed and not comparison.broken


def test_a_reward_by_name_and_a_mistyped_option(tiny_folder, scenes_folder):
    assert gpg_vl.evaluate(tiny_folder, scenes_folder, rewards="format", **FEW)["reward/format"].count == 8
    with pytest.raises(ConfigurationError, match="Did you mean 'max_new_tokens'"):
        gpg_vl.evaluate(tiny_folder, scenes_folder, max_tokens=4)
    with pytest.raises(DataError, match="data is empty"):
        gpg_vl.evaluate(tiny_folder, [])
