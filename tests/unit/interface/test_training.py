"""Training from Python: the same loop as the command's, with its checks and defaults."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import gpg_vl
from gpg_vl.config import PRESETS, TrainConfig
from gpg_vl.errors import CheckpointError, ConfigurationError, DataError, RunFolderError
from gpg_vl.interface.settings import configure
from gpg_vl.options import load_config
from tests.support.launched import free_port
from tests.support.letters import distinct
from tests.support.processes import ending
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
        ({"reward": [len]}, ConfigurationError, "Did you mean 'rewards'"),
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


def test_what_fits_no_argument_is_said_before_anything_happens(tiny_folder, scenes_folder, tmp_path):
    wrong = {
        "data is rows": {"data": None},
        "data is empty": {"data": iter(())},
        "a reward is a function or a name": {"rewards": None},
        "validation is a share between 0 and 1": {"validation": 1, "data": [{"question": "?"}]},
        "rollout.stop: no option holds this": {"rollout": {"stop": object()}},
        "data.test: no option holds this": {"data": {"train": str(scenes_folder), "test": object()}},
        "callbacks is a list": {"callbacks": print},
        'resume is "auto"': {"resume": True},
        "config is a YAML file or a TrainConfig": {"config": {"model": "x"}},
    }
    for message, given in wrong.items():
        with pytest.raises((ConfigurationError, DataError), match=message):
            gpg_vl.train(**(settings(tiny_folder, scenes_folder, tmp_path / "run", steps=1) | given))
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_are_numbers(tmp_path):
    given = {"model": "org/model", "data": "one", "rewards": {"choice": np.float32(0.5)}, "out": tmp_path}
    config = configure(
        TrainConfig, None, {**given, "steps": np.int64(7), "optim": {"learning_rate": np.float64(1e-5)}}
    )
    assert config.run.steps == 7 and config.optim.learning_rate == 1e-5 and config.rewards == {"choice": 0.5}


def test_a_table_of_splits_is_data_and_validation(tmp_path):
    """As a `datasets.DatasetDict`, which is a mapping, has them."""
    rows = [{"question": "1+1?", "answer": n, "answer_type": "number"} for n in range(4)]
    splits = datasets.DatasetDict(
        train=datasets.Dataset.from_list(rows), validation=datasets.Dataset.from_list(rows[:2])
    )
    given = {"model": "org/model", "data": splits, "rewards": "number", "out": tmp_path / "run", "steps": 1}
    config = configure(TrainConfig, None, given)
    assert [len(gpg_vl.read(folder)) for folder in (*config.data.train, *config.data.validation)] == [4, 2]


def test_callbacks_may_come_from_an_iterator_and_answer_with_numpys_true(
    tiny_folder, scenes_folder, tmp_path
):
    class Enough:
        def on_step(self, step, metrics):
            return np.bool_(True)

    given = settings(tiny_folder, scenes_folder, tmp_path / "run", steps=9)
    assert len(gpg_vl.train(callbacks=iter([Enough()]), **given).metrics) == 1


def test_a_run_in_a_thread(tiny_folder, scenes_folder, tmp_path):
    """Where Python lets nobody handle signals, as in a server or a window."""
    given = settings(tiny_folder, scenes_folder, tmp_path / "run", steps=1)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(gpg_vl.train, **given).result()
    assert list(run.checkpoints) == [1]


def test_a_launched_script_trains_twice_and_evaluates(tiny_folder, scenes_folder, tmp_path):
    """One launch, one program: both processes go on after the first run, and have the evaluation."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import torch, gpg_vl
from tests.support.letters import distinct
from tests.unit.interface.conftest import SMALL
torch.set_num_threads(1)
given = dict(model={str(tiny_folder)!r}, data={str(scenes_folder)!r}, rewards=distinct, steps=1, **SMALL)
runs = [gpg_vl.train(**given) for _ in range(2)]
few = {{"limit": 2, "max_new_tokens": 4}}
evaluation = gpg_vl.evaluate(runs[1].model(), given["data"], **few)
print([str(run.folder) for run in runs], evaluation.accuracy.count)
""")
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    root = Path(__file__).resolve().parents[3]
    started = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(root)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    with ending(*started):
        ends = [process.communicate(timeout=200) for process in started]
    errors = "\n".join(err[-3000:] for _, err in ends)
    for out, _ in ends:
        assert out.splitlines()[-1:] == ["['runs/train_001', 'runs/train_002'] 2"], errors
