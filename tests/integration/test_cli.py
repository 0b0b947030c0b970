"""The command line as a user types it: commands end to end, and mistakes that get one clear line."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gpg_vl.cli.main import COMMANDS
from gpg_vl.data.ingest import write_prepared
from tests.support.command_line import mistake, run
from tests.support.processes import ending
from tests.support.training import REWARD

SHORT = ("--rollout.group_size", "2", "--rollout.max_new_tokens", "6", "--run.threads", "1")


@pytest.fixture
def options(tiny_folder: Path, scenes_folder: Path, tmp_path: Path) -> list[str]:
    """A valid `train` command of two short steps."""
    data = json.dumps([str(scenes_folder)])
    rewards = json.dumps({f"{REWARD}:letters": 1.0})
    return [
        *("--out", str(tmp_path / "run"), "--model.path", str(tiny_folder), "--data.train", data),
        *("--algorithm.questions_per_step", "2", "--rewards", rewards, "--run.steps", "2", *SHORT),
        *("--eval.max_new_tokens", "6"),
    ]


def with_option(options: list[str], name: str, value: str) -> list[str]:
    return [*options, name, value]


def test_train_report_eval(options, scenes_folder, tmp_path, capsys):
    run("train", *options, "--data.validation", json.dumps([str(scenes_folder)]), "--eval.limit", "8")
    output, errors = capsys.readouterr()
    assert f"warning: 48 of the 48 rows of {scenes_folder} are in the training data too" in errors
    model = Path(re.search(r"model: (.*)", output)[1])
    report = Path(re.search(r"report: (.*)", output)[1])
    assert report.read_text().count("<img") > 2
    card = json.loads((model / "gpg_vl.json").read_text())
    assert card["prompt"]["template"] == "instruct" and card["rewards"] == {f"{REWARD}:letters": 1.0}
    items = tmp_path / "eval.json"
    run("eval", "--model", model, "--benchmark", scenes_folder, "--limit", "8", "--out", items)
    assert "| total | 8 |" in capsys.readouterr().out
    assert "exists already" in mistake(
        capsys, "eval", "--model", "m", "--benchmark", "b", "--out", str(items)
    )
    evaluation = json.loads(items.read_text())
    trained = json.loads((tmp_path / "run" / "eval" / "step_000002.json").read_text())
    assert evaluation["prompt"] == trained["prompt"]
    assert evaluation["benchmark"] == trained["benchmark"] == "scenes"
    # The checkpoint brings its prompt along: longer answers begin as those made while training did.
    for item, during in zip(evaluation["items"], trained["items"], strict=True):
        assert item["id"] == during["id"] and item["output"].startswith(during["output"])


def test_config_file_with_override(options, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("run: {steps: 7}\nalgorithm: {preset: dr_grpo}\n")
    run("train", "--config", str(file), *options)
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "steps: 2" in written and "normalize: constant" in written


def test_prepare_scenes_and_sft(tiny_folder, tmp_path, capsys):
    run("prepare", "scenes", "--out", tmp_path / "scenes", "--split", "validation", "--limit", "16")
    assert "16 rows" in capsys.readouterr().out
    data = json.dumps([str(tmp_path / "scenes")])
    out = tmp_path / "sft"
    size = ("--run.steps", "2", "--batch_size", "4", "--run.threads", "1")
    run("sft", "--out", out, "--model.path", tiny_folder, "--data.train", data, *size)
    assert (out / "checkpoints" / "step_000002" / "model" / "config.json").is_file()


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as exit:
        run("train", "--help")
    assert exit.value.code == 0
    output = capsys.readouterr().out
    for option in (
        "--algorithm.min_valid_fraction",
        "--rollout.temperature",
        "--optim.learning_rate",
        "--resume",
    ):
        assert option in output
    assert "default: 1e-06" in output and "Peak learning rate" in output
    run("--help")
    output = capsys.readouterr().out
    assert all(f"  {command} " in output for command in COMMANDS)
    with pytest.raises(SystemExit):
        run("prepare", "--help")
    output = capsys.readouterr().out
    assert "type: path" in output and "<function" not in output


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rollout.group_sise", "4"], "Did you mean 'rollout.group_size'?"),
        (["--model-path", "x"], "Did you mean 'model.path'?"),
        (["--model", "x"], "model is a section of options, got 'x'; known: model.path, "),
        (["--rollout.group_size", "1"], "at least 2"),
        (["--rollout.group_size", "many"], "rollout.group_size"),
        (["--rewards", '{"choise": 1.0}'], "Did you mean 'choice'?"),
        (["--rewards", '{"number": {"tolerence": 1}}'], "Did you mean 'tolerance'?"),
        (["--rewards", '{"no_file.py:x": 1}'], "no file 'no_file.py'"),
        (["--data.train", '["nowhere"]'], "'nowhere' is not a prepared data set"),
        (["--model.path", "nowhere"], "'nowhere' is not a model: there is no such folder"),
        (["--model.path", "./no/where"], "'./no/where' is not a model: there is no such folder"),
        (["--run.steps", "many"], "expected a whole number"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--optim.betas", "[0.9, 1.5]"], "optim.betas must lie from 0"),
        (["--eval.every", "2"], "data.validation names no data"),
        (["--rewards", '{"by_task": {"math": {"choice": 1.0}}}'], "no entry for task 'scenes/Count'"),
        (["--algorithm.updates_per_rollout", "2"], "must be 1 for preset 'gpg'"),
    ],
)
def test_mistakes_of_train(options, extra, message, capsys):
    assert message in mistake(capsys, "train", *options, *extra)


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_an_attention_that_is_not_installed(options, capsys):
    message = mistake(capsys, "train", *options, "--model.vision_attention", "flash_attention_2")
    assert "model.vision_attention flash_attention_2 needs the package flash_attn" in message


def test_a_mistake_leaves_no_run_folder(options, tmp_path, capsys):
    mistake(capsys, "train", *options, "--rewards", '{"choise": 1.0}')
    mistake(capsys, "train", *options, "--model.path", "nowhere")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_no_model_but_holds_one(options, scenes_folder, tmp_path, capsys):
    run("train", *options)
    capsys.readouterr()
    benchmark = ("--benchmark", str(scenes_folder))
    message = mistake(capsys, "eval", "--model", str(tmp_path / "run"), *benchmark)
    assert "did you mean" in message and "step_000002/model" in message


def test_broken_and_misspelt_config(options, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("rollout: [")
    assert "config" in mistake(capsys, "train", "--config", str(file), *options)
    file.write_text("rolout: {group_size: 4}")
    message = mistake(capsys, "train", "--config", str(file), *options)
    assert "line 1: unknown option 'rolout'. Did you mean 'rollout'?" in message


def test_a_folder_that_is_no_model(options, tmp_path, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "is not a model" in mistake(capsys, "train", *options, "--model.path", str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    line = mistake(capsys, "train", *options, "--model.path", str(folder))
    assert "supported: gemma3, " in line and ", qwen2_vl, " in line


def test_other_mistakes(capsys, tmp_path, scenes_folder):
    assert "Did you mean 'train'?" in mistake(capsys, "trian")
    message = mistake(capsys, "prepare", "jsonl", "--source", "x", "--answer-type", "label", "--out", "y")
    assert message.count("did you mean --answer_type?") == 1
    assert "Did you mean 'scenes'?" in mistake(capsys, "prepare", "scene", "--out", str(tmp_path / "x"))
    assert "exists already" in mistake(
        capsys, "prepare", "scenes", "--out", str(scenes_folder), "--limit", "1"
    )
    assert "split" in mistake(
        capsys, "prepare", "scenes", "--out", str(tmp_path / "x"), "--split", "tset", "--limit", "1"
    )
    assert "--limit" in mistake(capsys, "prepare", "scenes", "--out", str(tmp_path / "x"))
    assert "at least 1" in mistake(capsys, "prepare", "scenes", "--out", str(tmp_path / "x"), "--limit", "-3")
    assert "--held_out_rows must be" in mistake(capsys, "quickstart", "--held_out_rows", "-3")
    assert "neither metrics" in mistake(capsys, "report", str(tmp_path))


def test_an_unreadable_image_is_left_out_and_named(options, scene_samples, tmp_path, capsys):
    write_prepared(scene_samples[:4], tmp_path / "bad", source="", converter="x", version="1")
    shard = tmp_path / "bad" / "data-00000.parquet"
    rows, schema = pq.read_table(shard).to_pylist(), pq.read_schema(shard)
    rows[2]["images"][0]["bytes"] = b"not an image"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), shard)
    run("train", *options, "--data.train", str(tmp_path / "bad"))
    told = capsys.readouterr().err
    assert "warning: 1 of the 4 rows" in told and f"row 2 (id {scene_samples[2].id!r})" in told


def test_a_bug_in_a_reward_is_five_lines_with_code_1_and_a_file(options, tmp_path, capsys):
    file = tmp_path / "broken.py"
    file.write_text("def broken(completion, sample):\n    return 1 / 0\n")
    command = [
        sys.executable,
        "-m",
        "gpg_vl",
        "train",
        *options,
        "--rewards",
        json.dumps({f"{file}:broken": 1}),
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    first, answer, code, trace, place = result.stderr.splitlines()[-5:]
    assert re.fullmatch(r"gpg-vl: error: reward '.*broken' failed on sample 'scenes-train-0-\d+'", first)
    assert answer.startswith("  answer: '") and code == "  return 1 / 0" and "GPG_VL_TRACEBACK=1" in trace
    assert place.endswith("broken.py:2, in broken: ZeroDivisionError: division by zero")
    assert "Traceback" not in result.stderr
    [file] = tmp_path.glob("gpg-vl-*.txt")
    assert str(file) in trace and file.read_text().startswith("Traceback")


def test_a_tour_takes_no_folder_of_something_else(scenes_folder, tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    assert "holds something else than a tour" in mistake(capsys, "quickstart", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_interrupted_quickstart_goes_on(tmp_path):
    """SIGINT in the warm start; the same command goes on, and ends with a report and a summary."""
    out = tmp_path / "tour"
    size = ("--train_rows", "128", "--held_out_rows", "16", "--warm_start_steps", "40", "--steps", "3")
    command = [sys.executable, "-m", "gpg_vl", "quickstart", "--out", str(out), *size]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = out / "warmstart" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    with ending(process):
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "stopped after step" in output and f"gpg-vl quickstart --out {out} --train_rows 128" in output
    done = metrics.read_text().splitlines()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    # What a newcomer sees is ours: no library's warning, note or bar.
    assert {line.split(" ")[0] for line in finished.stderr.splitlines()} <= {
        "sft",
        "sft:",
        "train",
        "evaluate",
        "step",
        "prompt",
    }
    assert metrics.read_text().splitlines()[: len(done)] == done  # nothing was trained again
    summary = json.loads((out / "summary.json").read_text())
    assert (
        summary["base"]["total"]["accuracy"]["count"] == summary["trained"]["total"]["accuracy"]["count"] > 0
    )
    assert {"data", "model", "warm start", "gpg"} <= summary["seconds"].keys()
    for line in finished.stdout.splitlines():
        if line.startswith(("report", "summary", "base", "trained")):
            assert Path(line.split(maxsplit=1)[1]).exists()


LIBRARY = """
import logging
import warnings
import transformers.utils.logging
from gpg_vl.cli.main import main
from gpg_vl.cli.quiet import quiet_transformers

main(["env"])
quiet_transformers()
logging.getLogger("transformers.any").warning("Old is Deprecated")
warnings.warn("`old` is to become `new`", FutureWarning)
warnings.warn("old is deprecated", UserWarning)
warnings.warn("this matters", UserWarning)
"""


def test_what_libraries_are_going_to_change_is_not_for_users():
    command = [sys.executable, "-c", LIBRARY]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    shown = subprocess.run(command, capture_output=True, text=True, env=plain).stderr
    assert "this matters" in shown and "old" not in shown.lower()
    asked = plain | {"PYTHONWARNINGS": "default"}
    shown = subprocess.run(command, capture_output=True, text=True, env=asked).stderr
    assert "`old` is to become" in shown and "old is deprecated" in shown and "Old is Deprecated" in shown


def test_env_is_one_block_for_bug_reports(capsys):
    run("env")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"] == version("torch") and lines["transformers"] == version("transformers")
    assert {"python", "platform", "gpus", "gpg-vl", "peft", "deepspeed"} <= lines.keys()
    assert "mypy" not in lines  # of our own tools


def test_a_quickstart_over_seeds_tabulates(tmp_path, capsys):
    """Each seed in its folder, rates of both runs as told, and one table."""
    out, rates = tmp_path / "tours", {"gpg": 3e-4, "grpo": 5e-5}
    size = ("--train_rows", 64, "--held_out_rows", 16, "--warm_start_steps", 2, "--steps", 1)
    told = ("--learning_rate", rates["gpg"], "--compare_learning_rate", rates["grpo"], "--compare", "grpo")
    run("quickstart", "--out", out, "--seeds", 2, 5, *size, *told)
    table = (out / "seeds.md").read_text()
    assert table.strip() in capsys.readouterr().out and "| mean (95 % over seeds)" in table
    found = json.loads((out / "seeds.json").read_text())
    assert found["seeds"] == [2, 5] and set(found["differences"]) == {"trained - base", "trained - grpo"}
    for seed, name in itertools.product((2, 5), rates):
        config = yaml.safe_load((out / f"seed_{seed}" / name / "config.yaml").read_text())
        assert config["optim"]["learning_rate"] == rates[name] and config["run"]["seed"] == seed
