import json

import pytest

from gpg_vl.errors import CheckpointError
from gpg_vl.runs.best import Best, best_words, choose_best, find_best, note_best, read_best


def evaluation(step, **figures):
    totals = {name: {"mean": mean, "low": mean, "high": mean, "count": 4} for name, mean in figures.items()}
    return {"step": step, "totals": totals, "tasks": {}, "items": []}


@pytest.fixture
def run(tmp_path):
    """Evaluations by step with their figures, as a run of which all checkpoints but step 40's are kept."""

    def written(start=0, **steps):
        for name, figures in steps.items():
            step = int(name.removeprefix("step_"))
            path = tmp_path / "eval" / f"step_{step:06d}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(evaluation(step, **figures)))
            if step not in (start, 40):
                (tmp_path / "checkpoints" / f"step_{step:06d}").mkdir(parents=True)
        lines = [json.dumps({"step": step}) for step in range(start + 1, 100)]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        return tmp_path, tmp_path / "checkpoints"

    return written


def test_better_replaces_best_and_equal_does_not(tmp_path):
    for step, accuracy in ((0, 0.6), (2, 0.5), (4, 0.75), (6, 0.75), (8, 0.6)):
        note_best(tmp_path, evaluation(step, accuracy=accuracy), "accuracy")
    assert read_best(tmp_path) == Best(4, "accuracy", 0.75)


def test_the_model_before_training_may_be_the_best(run):
    folder, checkpoints = run(step_0={"accuracy": 0.533}, step_10={"accuracy": 0.402})
    assert best_words(folder, checkpoints, "accuracy", "Org/Model") == (
        "best: step 0, the model before training (accuracy 53.3%): Org/Model"
    )
    choose_best(folder, checkpoints, "accuracy", 10)
    note_best(checkpoints, evaluation(20, accuracy=0.5), "accuracy")
    assert read_best(checkpoints) == Best(0, "accuracy", 0.533)


def test_the_words_name_the_best_that_is_still_there(run):
    folder, checkpoints = run(
        step_0={"accuracy": 0.5},
        step_20={"accuracy": 0.6},
        step_40={"accuracy": 0.9},
        step_60={"accuracy": 0.6},
    )
    assert best_words(folder, checkpoints, "accuracy", "m") == (
        f"best: step 20 (accuracy 60.0%): {checkpoints / 'step_000020' / 'model'}"
    )


def test_any_figure_may_decide(run):
    folder, checkpoints = run(
        step_0={"accuracy": 0.9, "reward/my.py:f": -3.0},
        step_10={"accuracy": 0.1, "reward/my.py:f": 12.5},
    )
    assert "best: step 10 (reward/my.py:f 12.5)" in best_words(folder, checkpoints, "reward/my.py:f", "m")
    assert best_words(folder, checkpoints, "reward", "m") == ""


def test_a_run_that_goes_on_chooses_anew(run):
    """By another figure, without an evaluation of a later step, whose checkpoint was removed."""
    folder, checkpoints = run(
        step_0={"accuracy": 0.1, "format": 0.9},
        step_10={"accuracy": 0.8, "format": 0.2},
        step_30={"accuracy": 0.95, "format": 1.0},
    )
    choose_best(folder, checkpoints, "accuracy", 20)
    assert read_best(checkpoints) == Best(10, "accuracy", 0.8)
    choose_best(folder, checkpoints, "format", 20)
    assert read_best(checkpoints) == Best(0, "format", 0.9)
    choose_best(folder, checkpoints, "reward", 20)
    assert read_best(checkpoints) is None


def test_a_branch_counts_the_checkpoint_that_it_went_on_from(run):
    folder, checkpoints = run(start=50, step_50={"accuracy": 0.7}, step_60={"accuracy": 0.6})
    assert find_best(folder, checkpoints, "accuracy", 60) == Best(50, "accuracy", 0.7)
    words = best_words(folder, checkpoints, "accuracy", "m")
    assert words == "best: step 50, the checkpoint that it went on from (accuracy 70.0%)"


def test_what_could_not_be_graded_is_not_the_best(tmp_path):
    note_best(tmp_path, evaluation(0, reward=None), "reward")
    assert read_best(tmp_path) is None


def test_earlier_versions_wrote_the_accuracy(tmp_path):
    (tmp_path / "best.json").write_text('{"checkpoint": "step_000004", "accuracy": 0.75}')
    assert read_best(tmp_path) == Best(4, "accuracy", 0.75)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"checkpoint": "step_000004"}', '{"checkpoint": "x", "accuracy": 1}']
)
def test_a_damaged_file_says_so(tmp_path, text):
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"best\.json.*is damaged.*remove it to choose anew"):
        read_best(tmp_path)
