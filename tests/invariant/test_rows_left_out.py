"""Rows that cannot be used are left out and counted before a run; one that does not fit is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpg_vl.config import DataConfig, EvalConfig, ModelConfig, SftConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.errors import ConfigurationError, DataError, UserError
from gpg_vl.evaluation.evaluate_model import EvalSettings, evaluate_model
from gpg_vl.preflight.plan import Machine
from gpg_vl.preflight.preflight import preflight
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft
from gpg_vl.types import Sample
from tests.support.inputs import noise
from tests.support.training import metrics


@pytest.fixture
def shapes(config, tmp_path):
    """Strips that the run's limits shrink to one token's width, and one that no size is found for."""
    sizes = [(1400, 20), (20, 1400), (4000, 20), (60, 9000), (56, 56)]
    samples = [
        Sample(f"s{k}", "t", "What?", "(A)", "choice", ("1", "2"), (noise(*size, k),))
        for k, size in enumerate(sizes)
    ]
    write_prepared(samples, tmp_path / "shapes", source="", converter="made", version="1")
    data = DataConfig(train=[str(tmp_path / "shapes")], max_prompt_tokens=1024)
    model = replace(config.model, min_pixels=784, max_pixels=50_176)
    return replace(config, data=data, model=model, run=replace(config.run, steps=3))


def with_questions(folder: Path, question: str) -> None:
    """Other questions in the first two rows, as another tool might write them."""
    (shard,) = folder.glob("data-*.parquet")
    table = pq.read_table(shard)
    questions = [question, question, *table["question"].to_pylist()[2:]]
    place = table.schema.get_field_index("question")
    pq.write_table(table.set_column(place, "question", pa.array(questions)), shard)


def test_images_of_any_shape_that_prepare_admits_are_trained_on(shapes, capsys):
    train(shapes)
    assert len(metrics(Path(shapes.out))) == 3
    assert "left out" not in capsys.readouterr().err


def test_rows_that_cannot_be_asked_are_left_out_and_counted(shapes, capsys):
    with_questions(Path(shapes.data.train[0]), "What is <|image_pad|>?")
    train(shapes)
    told = capsys.readouterr().err
    assert "warning: 2 of the 5 rows of" in told and "2 unusable, such as: sample 's0': the question" in told
    report = preflight(shapes, Machine(), None, resume=False)
    (finding,) = (one for one in report.findings if one.check == "prompts")
    assert finding.level == "warn" and finding.text.startswith(
        "2 of 5 rows cannot be asked, such as: sample 's0'"
    )


def test_long_rows_are_counted_beside_them(shapes, capsys):
    with_questions(Path(shapes.data.train[0]), "What is <|image_pad|>?")
    train(replace(shapes, data=replace(shapes.data, max_prompt_tokens=100)))
    assert "4 of the 5 rows" in (told := capsys.readouterr().err)
    assert "2 with prompts longer than data.max_prompt_tokens; 2 unusable" in told


def test_a_set_without_a_usable_row_says_why(shapes):
    with_questions(Path(shapes.data.train[0]), "What is <|image_pad|>?")
    reason = r"3 of 5 prompts are longer than 1 tokens, the others cannot be used, such as: sample 's0'"
    with pytest.raises(DataError, match=reason):
        train(replace(shapes, data=replace(shapes.data, max_prompt_tokens=1)))


@pytest.fixture
def short(config, tiny_folder, tmp_path):
    """The tiny model with a context of 130 tokens: scenes take 101 of them."""
    folder = tmp_path / "short"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["max_position_embeddings"] = 130
    (folder / "config.json").write_text(json.dumps(settings))
    return replace(config, model=ModelConfig(path=str(folder)))


def test_answers_beyond_the_context_are_refused(short):
    long = replace(short, rollout=replace(short.rollout, max_new_tokens=40))
    with pytest.raises(ConfigurationError, match=r"rollout\.max_new_tokens 40 does not fit .* 130 tokens"):
        train(long)
    report = preflight(long, Machine(), None, resume=False)
    (finding,) = (one for one in report.findings if one.check == "context")
    assert finding.level == "fail" and "rollout.max_new_tokens 40 does not fit" in finding.text


def test_validation_beyond_the_context_is_refused(short):
    short = replace(short, eval=EvalConfig(limit=4, max_new_tokens=40))
    shared = {name: getattr(short, name) for name in ("out", "model", "data", "run", "eval")}
    for work, config in ((train, short), (sft, SftConfig(**shared))):
        with pytest.raises(ConfigurationError, match=r"eval\.max_new_tokens 40 does not fit"):
            work(config)


def test_an_evaluation_beyond_the_context_is_refused(short):
    settings = EvalSettings(model=short.model.path, benchmark=short.data.train[0], max_new_tokens=40)
    with pytest.raises(UserError, match=r"--max_new_tokens 40 does not fit"):
        evaluate_model(settings)


def test_a_frozen_language_model_without_images_is_refused(mixed_training, tmp_path):
    text = [Sample(f"t{k}", "t", f"Is it {k}?", "(A)", "choice", ("yes", "no")) for k in range(4)]
    write_prepared(text, tmp_path / "text", source="", converter="made", version="1")
    frozen = replace(mixed_training.model, freeze_language=True)
    config = replace(mixed_training, model=frozen, data=DataConfig(train=[str(tmp_path / "text")]))
    with pytest.raises(ConfigurationError, match=r"model\.freeze_language: no row has an image"):
        train(config)
