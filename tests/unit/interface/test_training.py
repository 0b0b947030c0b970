"""Training from Python: the same loop as the command's, with its checks and defaults."""

import pandas as pd
import pytest
import torch

import gpg_vl
from gpg_vl.config import PRESETS, TrainConfig
from gpg_vl.errors import CheckpointError, ConfigurationError, DataError, RunFolderError
from gpg_vl.interface.settings import configure
from gpg_vl.options import load_config
from tests.support.letters import distinct
from tests.support.training import same
from tests.unit.interface.conftest import SMALL


def settings(tiny_folder, scenes_folder, out, **more):
    return {"model": tiny_folder, "data": scenes_folder, "rewards": [distinct], "out": out, **SMALL, **more}


def test_a_run_is_tables_and_models(trained):
    run, _ = trained
    assert list(run.metrics.index) == [1, 2, 3] and "reward/mean" in run.metrics
    table = run.rollouts()
    assert isinstance(table, pd.DataFrame) and set(table["step"]) == {1, 2, 3}
    (reward,) = [name for name in table if name.startswith("reward/")]
    assert (table[reward] == table["reward"]).all()
    assert len(run.rollouts(2)) == (table["step"] == 2).sum()
    assert list(run.checkpoints) == [2, 3]
    assert list(run.evaluations) == [0, 3] and run.evaluations[3].accuracy.count == 4
    assert run.model().path == str(run.checkpoints[3]) and run.model(2).path == str(run.checkpoints[2])
    assert run.config.run.steps == 3 and repr(run).endswith("first')")
    with pytest.raises(DataError, match="no rollouts of step 9"):
        run.rollouts(9)
    with pytest.raises(CheckpointError, match="no checkpoint of step 1; it has: 2, 3"):
        run.model(1)
    assert run.report().name == "report.html"


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run folder"):
        gpg_vl.Run(tmp_path)


def test_callbacks_follow_every_step_in_order(trained):
    run, follower = trained
    kinds = [(kind, step) for kind, step, _ in follower.seen]
    assert kinds == [
        ("evaluation", 0),
        *[("groups", 1), ("step", 1)],
        *[("groups", 2), ("step", 2), ("save", 2)],
        *[("groups", 3), ("step", 3), ("save", 3), ("evaluation", 3)],
    ]
    rewards = [value for kind, _, value in follower.seen if kind == "step"]
    assert rewards == list(run.metrics["reward/mean"])
    saved = [value for kind, _, value in follower.seen if kind == "save"]
    assert saved == list(run.checkpoints.values())


def test_a_callback_ends_the_run_with_its_weights_saved(tiny_folder, scenes_folder, tmp_path):
    class Enough:
        def on_step(self, step, metrics):
            return step == 2

    out = tmp_path / "run"
    run = gpg_vl.train(steps=9, callbacks=[Enough()], **settings(tiny_folder, scenes_folder, out))
    assert list(run.metrics.index) == [1, 2] and list(run.checkpoints) == [2]


def test_a_callback_of_another_name_would_never_be_called(tiny_folder, scenes_folder, tmp_path):
    class Misspelt:
        def on_steps(self, step, metrics):
            pass

    given = settings(tiny_folder, scenes_folder, tmp_path / "run", steps=1)
    with pytest.raises(ConfigurationError, match="Did you mean 'on_step'"):
        gpg_vl.train(callbacks=[Misspelt()], **given)
    for useless in (object(), print, type("OnStep", (), {"on_step": print})):
        with pytest.raises(ConfigurationError, match="is no object with one of the methods on_groups"):
            gpg_vl.train(callbacks=[useless], **given)
    with pytest.raises(ConfigurationError, match="callbacks is a list of objects"):
        gpg_vl.train(callbacks=Misspelt(), **given)
    assert not (tmp_path / "run").exists()


def test_steps_are_the_same_loop(tiny_folder, scenes_folder, tmp_path, trained):
    """Step for step what `train` wrote down, and the same weights at the end."""
    run, _ = trained
    given = settings(tiny_folder, scenes_folder, tmp_path / "run", steps=3)
    taken = list(gpg_vl.steps(**given))
    assert [step.number for step in taken] == [1, 2, 3]
    assert [step.metrics["reward/mean"] for step in taken] == list(run.metrics["reward/mean"])
    for step in taken:
        assert step.advantages.shape == (len(step.groups), 4)
        assert torch.equal(step.advantages != 0, torch.tensor([[g.valid] * 4 for g in step.groups]))
    assert same(run.checkpoints[3], gpg_vl.Run(tmp_path / "run").checkpoints[3])


def test_who_leaves_the_loop_goes_on_later(tiny_folder, scenes_folder, tmp_path, trained):
    run, _ = trained
    given = settings(tiny_folder, scenes_folder, tmp_path / "run", steps=3, run={"save_every": 2})
    for step in gpg_vl.steps(**given):
        if step.number == 2:
            break
    rest = [step.number for step in gpg_vl.steps(resume="auto", **given)]
    assert rest == [3] and same(run.checkpoints[3], gpg_vl.Run(tmp_path / "run").checkpoints[3])


def test_without_a_name_a_run_takes_the_next_free_folder(tiny_folder, scenes_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = settings(tiny_folder, scenes_folder, "", steps=1)
    del given["out"]
    assert [str(gpg_vl.train(**given).folder) for _ in range(2)] == ["runs/train_001", "runs/train_002"]


def test_settings_are_those_of_the_command_line(tmp_path):
    given = {
        "model": {"path": "org/model", "lora_rank": 8},
        "data": ["one", "two"],
        "validation": "three",
        "rewards": {"choice": 0.5},
        "steps": 7,
        "out": tmp_path / "3",
        "algorithm": {"preset": "grpo", "kl_beta": 0.01},
        "optim": {"learning_rate": 1e-6, "betas": (0.9, 0.95)},
        "run": {"trackers": ["tensorboard"], "keep_best": True},
        "eval": {"every": 5},
        "prompt": {"instruction": "Say 3."},
    }
    words = [
        *("--model.path", "org/model", "--model.lora_rank", "8", "--data.train", "one", "two"),
        *("--data.validation", "three", "--rewards", '{"choice": 0.5}', "--run.steps", "7"),
        *("--out", str(tmp_path / "3"), "--algorithm.preset", "grpo", "--algorithm.kl_beta", "0.01"),
        *("--optim.learning_rate", "1e-6", "--optim.betas", "[0.9, 0.95]", "--eval.every", "5"),
        *("--run.trackers", "[tensorboard]", "--run.keep_best", "true", "--prompt.instruction", "Say 3."),
    ]
    config = configure(TrainConfig, None, given)
    assert config == load_config(TrainConfig, words)
    assert config.algorithm.std_normalize is PRESETS["grpo"]["std_normalize"]


def test_texts_stay_texts(tmp_path):
    """None of them is read as YAML, whatever it looks like."""
    for text in ("# Task", "# Task\nDo", "3", "true", "[a]", "{a: b}", "a: b", "'q'", "", '"x"\nb', "1e-6"):
        given = {"model": "org/m", "data": ["d"], "out": "r", "prompt": {"instruction": text}}
        assert configure(TrainConfig, None, given).prompt.instruction == text, text
    given = {"model": "org/m", "data": ["d"], "out": "r", "prompt": {"instruction": None}}
    assert configure(TrainConfig, None, given).prompt.instruction is None


def test_a_file_with_settings_over_it(tmp_path, tiny_folder):
    file = tmp_path / "mine.yaml"
    file.write_text("out: there\nmodel: {path: org/m}\ndata: {train: [d]}\nrun: {steps: 5, seed: 3}\n")
    config = configure(TrainConfig, file, {"steps": 2, "run": {"threads": 1}})
    assert (config.run.steps, config.run.seed, config.run.threads, config.out) == (2, 3, 1, "there")
    with pytest.raises(ConfigurationError, match="a TrainConfig is complete: give no steps beside it"):
        configure(TrainConfig, config, {"steps": 3})
    assert configure(TrainConfig, config, {}) is config


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"optim": {"learning_rte": 1.0}}, ConfigurationError, "Did you mean 'optim.learning_rate'"),
        ({"optim": {"learning_rate": "high"}}, ConfigurationError, "expected a number"),
        ({"stepps": 3}, ConfigurationError, "stepps"),
        ({"rewards": ["choise"]}, KeyError, "Did you mean 'choice'"),
        ({"data": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_mistakes_are_said_before_a_model_is_loaded(
    more, error, message, tiny_folder, scenes_folder, tmp_path
):
    with pytest.raises(error, match=message):
        gpg_vl.train(**(settings(tiny_folder, scenes_folder, tmp_path / "run", steps=1) | more))
    assert not (tmp_path / "run").exists()


def test_a_used_folder_is_refused(trained, tiny_folder, scenes_folder):
    run, _ = trained
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        gpg_vl.train(**settings(tiny_folder, scenes_folder, run.folder, steps=1))


def test_overwriting_deletes_neither_a_file_nor_what_is_read(trained, scenes_folder, tmp_path):
    run, _ = trained
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RunFolderError, match="is a file"):
        gpg_vl.train(**settings(run.checkpoints[3], scenes_folder, file, steps=1), overwrite=True)
    with pytest.raises(ConfigurationError, match=r"--overwrite would delete model\.path"):
        gpg_vl.train(**settings(run.checkpoints[3], scenes_folder, run.folder, steps=1), overwrite=True)
    assert file.read_text() == "mine" and run.checkpoints


def test_a_warm_start_from_python(tiny_folder, scenes_folder, tmp_path):
    run = gpg_vl.sft(model=tiny_folder, data=scenes_folder, out=tmp_path / "sft", steps=2)
    assert list(run.metrics.index) == [1, 2] and type(run.config).__name__ == "SftConfig"
    with pytest.raises(ConfigurationError, match="supervised fine-tuning has none"):
        gpg_vl.sft(model=tiny_folder, data=scenes_folder, steps=2, rewards=["choice"])
