"""Evaluation on the tiny model: stopped and taken up again, over two processes, compared."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.evaluation.evaluate import evaluate
from gpg_vl.evaluation.partial import PartialFile
from gpg_vl.prompting.card import write_card
from gpg_vl.rollout.answering import Answerer
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.runs.files import read_evaluation
from tests.support.command_line import mistake, run
from tests.support.inputs import encoder_of
from tests.support.processes import ending
from tests.support.training import REWARD

SAMPLED = Sampling(8, temperature=1.0)


@pytest.fixture
def evaluation(policy, scenes_folder):
    """Evaluates 24 scenes with three answers each, in chunks of 8 questions."""
    answerer = Answerer(encoder_of(policy), OwnEngine(policy, max_concurrent=24, seed=5))
    rows = PreparedDataset.open([str(scenes_folder)]).head(24)

    def evaluated(**options):
        return evaluate(answerer, rows, SAMPLED, samples=3, **options)

    return evaluated


def test_several_answers_a_question(evaluation, scene_samples):
    items = evaluation()["items"]
    assert [item["id"] for item in items] == [sample.id for sample in scene_samples[:24]]
    assert [item["row"] for item in items] == list(range(24))
    assert all(len(item["samples"]) == 3 for item in items)
    assert all(len({one["output"] for one in item["samples"]}) > 1 for item in items)
    assert items[0]["prompt"].startswith("<|im_start|>user\n<|vision_start|>")
    assert items[0]["question"] in items[0]["prompt"]


def test_a_stopped_evaluation_goes_on_where_it_was(evaluation, tmp_path):
    path = tmp_path / "partial.jsonl"

    def stop_after_two_chunks(done):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation(partial=PartialFile(path, {}), progress=stop_after_two_chunks)
    with path.open("r+") as file:  # the kill came within the second chunk's last line
        file.truncate(path.stat().st_size - 9)
    seen = []
    resumed = evaluation(partial=PartialFile(path, {}), progress=seen.append)
    assert seen == [15, 16, 24]
    whole = evaluation()
    assert resumed["items"] == whole["items"]
    assert resumed["totals"] == whole["totals"]


def command(model, data, out, *options):
    size = ("--max_new_tokens", "60", "--max_concurrent", "4")
    return ["eval", "--model", model, "--benchmark", data, "--out", out, *size, *options]


def items(path):
    return json.loads(Path(path).read_text())["items"]


def test_a_killed_evaluation_is_taken_up(tiny_folder, scenes_folder, tmp_path, capsys):
    """SIGKILL after the first chunk; the same command ends with what one without a kill has."""
    killed, whole = tmp_path / "killed.json", tmp_path / "whole.json"
    words = [str(word) for word in command(tiny_folder, scenes_folder, killed, "--limit", "24")]
    partial = tmp_path / "killed.json.partial.jsonl"
    process = subprocess.Popen([sys.executable, "-m", "gpg_vl", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    with ending(process):
        while not (partial.is_file() and partial.read_text().count("\n") > 4):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not killed.exists()
    run(*words)
    assert "going on after" in capsys.readouterr().err.replace("\n", " ")
    assert not partial.exists()
    run(*command(tiny_folder, scenes_folder, whole, "--limit", "24"))
    assert items(killed) == items(whole) and len(items(whole)) == 24


@pytest.mark.slow
def test_two_processes_answer_as_one(tiny_folder, scenes_folder, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "gpg_vl"]
    table = json.dumps({f"{REWARD}:letters": 0.5, "format": 1.0})
    options = ("--samples", "2", "--limit", "11", "--max_new_tokens", "12", "--rewards", table)
    words = [str(word) for word in command(tiny_folder, scenes_folder, tmp_path / "two.json", *options)]
    result = subprocess.run([*launch, *words], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| total | 11 |") == 1
    run(*command(tiny_folder, scenes_folder, tmp_path / "one.json", *options))
    assert items(tmp_path / "two.json") == items(tmp_path / "one.json")
    assert all(
        set(item["rewards"]) == {f"{REWARD}:letters", "format"} for item in items(tmp_path / "one.json")
    )
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_checkpoint_is_evaluated_by_its_own_rewards(tiny_folder, scenes_folder, tmp_path, capsys):
    """Until the file is gone that they live in; a model without a card takes those of a file."""
    mine, model = tmp_path / "mine.py", tmp_path / "model"
    shutil.copyfile(REWARD, mine)
    shutil.copytree(tiny_folder, model)
    rewards = {f"{mine}:letters": 0.5}
    write_card(model, {"rewards": rewards})
    (tmp_path / "rewards.yaml").write_text(json.dumps({"rewards": rewards}))
    size = ("--limit", "4", "--max_new_tokens", "8")
    own, given, gone, off = (tmp_path / f"{name}.json" for name in ("own", "given", "gone", "off"))
    run(*command(model, scenes_folder, own, *size))
    run(*command(tiny_folder, scenes_folder, given, *size, "--rewards", tmp_path / "rewards.yaml"))
    for item, same in zip(items(own), items(given), strict=True):
        count = float(item["output"].count("e"))
        assert item["rewards"] == same["rewards"] == {f"{mine}:letters": count}
        assert item["reward"] == same["reward"] == count / 2
    assert read_evaluation(own)["rewards"] == read_evaluation(given)["rewards"] == rewards
    run(*command(model, scenes_folder, off, *size, "--rewards", "off"))
    mine.unlink()
    capsys.readouterr()
    run(*command(model, scenes_folder, gone, *size))
    assert capsys.readouterr().err.count("warning: rewards of") == 1
    for path in (off, gone):
        assert "reward" not in items(path)[0] and read_evaluation(path)["rewards"] is None
    run("compare", own, given)
    assert "| weighted sum" in capsys.readouterr().out
    run("compare", own, gone)
    assert "weighted sum" not in capsys.readouterr().out


def test_compare(tiny_folder, scenes_folder, tmp_path, capsys):
    names = [tmp_path / f"{name}.json" for name in ("base", "again", "fewer")]
    for name, limit in zip(names, (8, 8, 6), strict=True):
        run(*command(tiny_folder, scenes_folder, name, "--limit", limit, "--max_new_tokens", "4"))
    changed = json.loads(names[1].read_text())
    for item in changed["items"]:
        item["correct"] = 1.0
    names[1].write_text(json.dumps(changed))
    capsys.readouterr()
    assert "was changed by hand" in mistake(capsys, "compare", *names[:2])
    del changed["seal"]
    names[1].write_text(json.dumps(changed))
    run("compare", names[0], names[1], "--out", tmp_path / "difference.json")
    output = capsys.readouterr().out
    assert "| total | 8 |" in output and "leaves out 0: chance alone does not explain" in output
    total = json.loads((tmp_path / "difference.json").read_text())["total"]
    assert total["fixed"] == [item["id"] for item in changed["items"]]
    assert "B lacks 2 questions" in mistake(capsys, "compare", names[0], names[2])
    assert "exists already" in mistake(capsys, "compare", *names[:2], "--out", tmp_path / "difference.json")
    assert "there is no file" in mistake(capsys, "compare", names[0], tmp_path / "none.json")


def test_mistakes_of_eval(scenes_folder, tiny_folder, capsys):
    model = ("eval", "--model", tiny_folder)
    assert "gpg-vl prepare geoqa" in mistake(capsys, *model, "--benchmark", "geoqa")
    assert "Did you mean 'geoqa'?" in mistake(capsys, *model, "--benchmark", "geoqua")
    assert "the same answer 4 times" in mistake(
        capsys, *model, "--benchmark", scenes_folder, "--samples", "4", "--temperature", "0"
    )
    wrong = mistake(capsys, *model, "--benchmark", scenes_folder, "--prompt", "none")
    assert wrong.endswith("option \"prompt\": expected one of ['instruct', 'base', 'boxed']. Got value: none")
    assert "model" in mistake(capsys, "eval", "--benchmark", scenes_folder)
    assert "--rewards is on, off" in mistake(capsys, *model, "--benchmark", scenes_folder, "--rewards", "no")
    assert "Did you mean 'choice'?" in mistake(
        capsys, *model, "--benchmark", scenes_folder, "--rewards", '{"choise": 1}'
    )
    with pytest.raises(SystemExit), contextlib.redirect_stdout(None):
        run("eval", "--help")
