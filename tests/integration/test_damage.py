"""Whatever is damaged ends in a message, or in the result of the undamaged: never in another one.

Out of reach are flipped bytes in weights of a model that is no checkpoint, in metrics.jsonl and in logs.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import UserError
from gpg_vl.evaluation.evaluate_model import EvalSettings, evaluate_model
from gpg_vl.report.report import write_run_report
from gpg_vl.runs.files import read_evaluations
from gpg_vl.runs.resume import list_checkpoints
from gpg_vl.training.train import train
from tests.support.damage import copied, draw_damage, outcome
from tests.support.full_disk import files_up_to
from tests.support.hostile import Hostile
from tests.support.training import REWARD, metrics, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries warn of what is damaged, each in its way

FEW, ALL = 8, 67
SEEDS = [*range(FEW), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FEW, ALL))]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def data(place, scene_samples) -> Path:
    write_prepared(scene_samples[:6], place / "data", source="", converter="scenes", version="1")
    return place / "data"


@pytest.fixture(scope="module")
def config(place, data, tiny_folder) -> TrainConfig:
    return TrainConfig(
        out=str(place / "run"),
        model=ModelConfig(path=str(tiny_folder)),
        data=DataConfig(train=[str(data)], validation=[str(data)]),
        rollout=RolloutConfig(group_size=2, max_new_tokens=3),
        algorithm=AlgorithmConfig(questions_per_step=2, max_rounds=1),
        rewards={f"{REWARD}:letters": 1.0},
        optim=OptimConfig(learning_rate=1e-3),
        run=RunConfig(steps=2, seed=3, threads=1, save_every=1, keep_last=9),
        eval=EvalConfig(limit=2, max_new_tokens=2),
    )


def result(out: str | Path) -> list:
    """What a run came to: weights, metrics and answers."""
    model = list_checkpoints(Path(out) / "checkpoints")[-1] / "model"
    tensors = {
        name: hashlib.sha256(weight.numpy().tobytes()).hexdigest() for name, weight in weights(model).items()
    }
    answers = [[item["output"] for item in one["items"]] for one in read_evaluations(Path(out))]
    return [tensors, metrics(Path(out)), answers]


@pytest.fixture(scope="module")
def whole(config) -> list:
    train(config)
    return result(config.out)


@pytest.fixture(scope="module")
def halted(config, whole, place) -> Path:
    """The run folder as it was after the first of two steps."""
    folder = copied(Path(config.out), place / "halted")
    last = folder / "checkpoints" / "step_000002"
    for file in sorted(last.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    last.rmdir()
    (folder / "eval" / "step_000002.json").unlink()
    return folder


def answers(model: Path, data: Path) -> list:
    found = evaluate_model(EvalSettings(str(model), str(data), limit=3, max_new_tokens=4))
    assert found is not None
    return [[item["prompt"], item["output"], item["correct"]] for item in found["items"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_data_set(config, whole, data, tmp_path, seed):
    damage = draw_damage(copied(data, tmp_path / "data"), seed)
    damage.inflict()
    rows = DataConfig(train=[str(tmp_path / "data")], validation=[str(tmp_path / "data")])

    def work() -> list:
        train(replace(config, out=str(tmp_path / "run"), data=rows))
        return result(tmp_path / "run")

    assert outcome(work, whole) in ("refused", "same"), damage


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_model(config, whole, data, tmp_path, seed):
    model = list_checkpoints(Path(config.out) / "checkpoints")[-1] / "model"
    expected = answers(model, data)
    damage = draw_damage(copied(model, tmp_path / "model"), seed)
    damage.inflict()
    assert outcome(lambda: answers(tmp_path / "model", data), expected) in ("refused", "same"), damage


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_run(config, whole, halted, tmp_path, seed):
    """Its checkpoint too; rollouts and the plots are not read again, one evaluation less is fine."""
    folder = copied(halted, tmp_path / "run")
    damage = draw_damage(folder, seed, without=(".lock", "environment.json"))
    damage.inflict()

    def work() -> list:
        train(replace(config, out=str(folder)), resume="auto")
        write_run_report(folder, {})
        found = result(folder)
        if damage.file.name == "metrics.jsonl":
            return [found[0], whole[1], found[2]]
        if damage.file.parent.name == "eval" and not damage.file.exists():
            return [*found[:2], [whole[2][0], *found[2]]]
        return found

    assert outcome(work, whole) in ("refused", "same"), damage


@pytest.mark.parametrize("size", [100, 3000, 30_000, 200_000])
def test_a_disk_that_fills_up(config, whole, tmp_path, size):
    """Files end at `size` bytes, whatever writes them; with room again, the run goes on to the same end."""
    own = replace(config, out=str(tmp_path / "run"))
    with files_up_to(size), pytest.raises(UserError, match=r"cannot (write|save)"):
        train(own)
    names = [path.name for path in (tmp_path / "run").rglob("*")]
    assert not [name for name in names if name.endswith(".tmp") or name.startswith(".saving-")]
    train(own, resume="auto")
    assert result(own.out) == whole


def test_a_disk_that_fills_up_while_data_is_prepared(tmp_path, scene_samples):
    with files_up_to(2000), pytest.raises(UserError, match=r"cannot write .*data': File too large"):
        write_prepared(scene_samples, tmp_path / "data", source="", converter="scenes", version="1")
    assert list(tmp_path.iterdir()) == []
    write_prepared(scene_samples, tmp_path / "data", source="", converter="scenes", version="1")
    assert len(PreparedDataset.open([str(tmp_path / "data")])) == len(scene_samples)


@pytest.mark.parametrize(
    "file",
    ["state/train_state.pt", "state/random_00000.pt", "model/pytorch_model.bin", "model/adapter_model.bin"],
)
def test_a_checkpoint_of_someone_else_runs_no_code(config, halted, tiny_folder, tmp_path, file):
    """Resumed, or as the model of another run where it has become a LoRA checkpoint."""
    folder, resume = copied(halted, tmp_path / "run"), "auto"
    checkpoint = folder / "checkpoints" / "step_000001"
    torch.save({"step": Hostile(tmp_path / "ran")}, checkpoint / file)
    if "adapter" in file:
        model = ModelConfig(path=str(checkpoint / "model"), lora_rank=2, lora_alpha=8)
        folder, resume, config = tmp_path / "other", None, replace(config, model=model)
        adapter = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_folder), "r": 2}
        text = json.dumps(adapter | {"target_modules": ["q_proj"]})
        (checkpoint / "model" / "adapter_config.json").write_text(text)
    if file.startswith("model/"):
        for name in ("model.safetensors", "gpg_vl_files.json"):
            (checkpoint / "model" / name).unlink()
    with pytest.raises(UserError, match=r"cannot read|has no loadable|Weights only load failed"):
        train(replace(config, out=str(folder)), resume=resume)
    assert not (tmp_path / "ran").exists()
