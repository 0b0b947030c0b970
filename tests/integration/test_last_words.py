"""What `train` and `sft` leave behind and say last."""

import pytest

from tests.support.command_line import run
from tests.support.training import REWARD


@pytest.mark.parametrize("command", ["sft", "train"])
def test_a_run_writes_a_report_and_names_its_best_model(
    command, tiny_folder, scenes_folder, tmp_path, capsys
):
    out = tmp_path / "run"
    size = {"data.train": scenes_folder, "data.validation": scenes_folder, "run.steps": 2, "run.threads": 1}
    size |= {
        "eval.limit": 4,
        "eval.max_new_tokens": 8,
        "model.path": tiny_folder,
        "optim.learning_rate": 1e-12,
    }
    if command == "sft":
        size["batch_size"] = 2
    else:
        size |= {"rollout.group_size": 2, "rollout.max_new_tokens": 8, "algorithm.questions_per_step": 2}
        size |= {"rewards": f"{{{REWARD}:letters: 1.0}}", "run.best_by": "reward"}
    words = [word for name, value in size.items() for word in (f"--{name}", value)]
    run(command, "--out", out, *words)
    *_, report, best = capsys.readouterr().out.splitlines()
    assert report == f"report: {out / 'report.html'}" and (out / "report.html").is_file()
    # Nothing is learned at this rate, so nothing is better than the model before training.
    by = "accuracy" if command == "sft" else "reward"
    assert best.startswith(f"best: step 0, the model before training ({by} ")
    assert best.endswith(f": {tiny_folder}")
