import json
from dataclasses import replace

import pytest

from gpg_vl.errors import ConfigurationError, DataError, UnknownNameError
from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED, find_benchmark, protocol_of
from gpg_vl.evaluation.evaluate_model import EvalSettings, choose_prompt
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.sampling import Sampling


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def prepared(folder, converter="cv_bench", tasks=("cv_bench/Count",), options=None, source=""):
    folder.mkdir(parents=True)
    manifest = {"converter": converter, "tasks": dict.fromkeys(tasks, 1), "options": options or {}}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"source": source}))
    return str(folder)


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ({"converter": "cv_bench"}, "cv_bench"),
        ({"converter": "scenes"}, "scenes"),
        ({"converter": "virft", "tasks": ["classification/flowers"]}, "classification"),
        ({"converter": "virft", "tasks": ["detection/coco"]}, "prepared"),
        ({"converter": "math", "tasks": ["math/MATH-500"]}, "math500"),
        ({"converter": "math", "tasks": ["math"], "options": {"name": "amc23"}}, "amc23"),
        ({"converter": "math", "tasks": ["math"], "source": "HuggingFaceH4/aime_2024"}, "aime24"),
        ({"converter": "math", "tasks": ["math/asdiv"], "options": {"limit": 3}}, "math"),
        ({"converter": "file.py:mine"}, "prepared"),
    ],
)
def test_a_manifest_picks_its_protocol(tmp_path, manifest, name):
    assert protocol_of([prepared(tmp_path / "x", **manifest)]).name == name


def test_folders_of_two_benchmarks_have_none(tmp_path):
    folders = [prepared(tmp_path / "a", "cv_bench"), prepared(tmp_path / "b", "geoqa")]
    assert protocol_of(folders) is PREPARED
    assert protocol_of([folders[0], prepared(tmp_path / "c")]).name == "cv_bench"


def test_a_benchmark_by_name_by_folder_and_by_both(tmp_path):
    own = prepared(tmp_path / "mine", "geoqa")
    assert find_benchmark(own, None) == (BENCHMARKS["geoqa"], own)
    assert find_benchmark("lisa", own) == (BENCHMARKS["lisa"], own)
    prepared(tmp_path / "data" / "nlvr", "nlvr")
    assert find_benchmark("nlvr", None) == (BENCHMARKS["nlvr"], "data/nlvr")


@pytest.mark.parametrize(
    ("reference", "data", "error", "message"),
    [
        ("cv_bench", None, DataError, "prepare cv_bench --source nyu-visionx/CV-Bench --out data/cv_bench"),
        ("math500", "gone", DataError, "'gone' is not a prepared data set"),
        ("math50", None, UnknownNameError, "Did you mean 'math500'?"),
        ("no/where", "gone", UnknownNameError, "unknown benchmark 'no/where'"),
    ],
)
def test_a_benchmark_without_data_says_how_to_get_it(reference, data, error, message):
    with pytest.raises(error) as caught:
        find_benchmark(reference, data)
    assert message in str(caught.value)


def test_who_decides_the_prompt():
    own = Prompt(instruction="Mine.", box_space="grid")
    math = BENCHMARKS["math500"]
    assert choose_prompt({"prompt": own.to_dict()}, math, None) == own
    assert choose_prompt({}, math, None) == math.prompt != PREPARED.prompt
    assert choose_prompt({"prompt": own.to_dict()}, math, "instruct") == own
    assert choose_prompt({"prompt": own.to_dict()}, math, "base") == Prompt("base", box_space="grid")
    assert choose_prompt({"prompt": Prompt("base").to_dict()}, math, "boxed") == math.prompt


SETTINGS = EvalSettings("model", "benchmark")


@pytest.mark.parametrize(
    ("changes", "temperature", "top_p"),
    [
        ({}, 0.0, 1.0),
        ({"samples": 4}, 0.6, 0.95),
        ({"temperature": 0.9}, 0.9, 1.0),
        ({"samples": 4, "temperature": 1.0, "top_p": 1.0}, 1.0, 1.0),
    ],
)
def test_several_answers_are_sampled_and_one_is_greedy(changes, temperature, top_p):
    expected = Sampling(7, temperature=temperature, top_p=top_p, stop=("x",))
    assert replace(SETTINGS, **changes).sampling(7, ("x",)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 3, "temperature": 0.0}, "the same answer 3 times"),
        ({"samples": 0}, "at least 1"),
        ({"limit": -1}, "must not be negative"),
        ({"out": "."}, "exists already"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        replace(SETTINGS, **changes)


def test_olympiadbench_is_prepared_from_its_text_only_part():
    prepare = BENCHMARKS["olympiadbench"].prepare
    assert "--config OE_TO_maths_en_COMP --name olympiadbench --out data/olympiadbench" in prepare
