from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from gpg_vl.cli.launch import launch_options
from gpg_vl.config import (
    PRESETS,
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from gpg_vl.errors import ConfigurationError
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.options import load_config, parse_command, to_yaml
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.scoring.scorer import Scorer
from tests.support.recipes import CONFIGS, RECIPES

INPUTS = ["--out", "runs/x", "--model.path", "tiny", "--data.train", "[data/train]"]


@pytest.fixture
def load(tmp_path):
    """A configuration from YAML and further options."""

    def run(text="", *options, kind=TrainConfig):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        given = ["--config", str(file)] if text else []
        return load_config(kind, [*given, *INPUTS, *options])

    return run


def test_defaults_are_the_papers():
    config = TrainConfig("x", ModelConfig("tiny"), data=DataConfig(["d"]))
    assert (config.rollout.group_size, config.rollout.temperature) == (8, 1.0)
    assert (config.algorithm.preset, config.algorithm.age, config.algorithm.std_normalize) == (
        "gpg",
        True,
        False,
    )
    assert config.algorithm.min_valid_fraction == 0.4
    assert config.optim.learning_rate == 1e-6


def test_options_win_over_the_file_and_the_file_over_the_defaults(load):
    config = load("rollout: {group_size: 4, temperature: 0.5}\n", "--rollout.temperature", "0.7")
    assert (config.rollout.group_size, config.rollout.temperature) == (4, 0.7)
    assert config.rollout.max_new_tokens == 700
    assert (config.out, config.model.path, config.data.train) == ("runs/x", "tiny", ["data/train"])


@pytest.mark.parametrize(
    ("text", "options", "near"),
    [
        ("", ["--rollout.group_sice", "4"], "'rollout.group_size'"),
        ("", ["--optim.lerning_rate", "1"], "'optim.learning_rate'"),
        ("rollout: {groupsize: 4}", [], "'rollout.group_size'"),
        ("rolout: {group_size: 4}", [], "'rollout'"),
        ("algorithm: {presett: gpg}", [], "'algorithm.preset'"),
        ("reward: {choice: 1}", [], "'rewards'"),
    ],
)
def test_an_unknown_option_names_the_nearest(load, text, options, near):
    with pytest.raises(ConfigurationError, match=f"Did you mean {near}"):
        load(text, *options)


def test_an_option_like_no_other_lists_its_sections():
    with pytest.raises(ConfigurationError) as caught:
        load_config(TrainConfig, [*INPUTS, "--model.qqqqqqqqqqqqqqqqqq", "1"])
    assert "known: model.path, model.precision" in str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_its_knobs_and_no_others(load, preset):
    algorithm = load("", "--algorithm.preset", preset).algorithm
    assert algorithm == AlgorithmConfig(preset=preset, **PRESETS[preset])
    assert load(f"algorithm: {{preset: {preset}}}").algorithm == algorithm


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("algorithm: {preset: grpo, age: true}", [], {"age": True, "std_normalize": True, "kl_beta": 0.04}),
        ("algorithm: {age: true}", ["--algorithm.preset", "grpo"], {"age": False, "kl_beta": 0.04}),
        (
            "algorithm: {preset: grpo}",
            ["--algorithm.kl_beta", "0", "--algorithm.normalize", "group"],
            {"kl_beta": 0.0, "normalize": "group", "age": False},
        ),
        (
            "algorithm: {preset: grpo}",
            ["--algorithm.preset", "dr_grpo"],
            {"normalize": "constant", "kl_beta": 0.0},
        ),
        ("algorithm: {preset: grpo}", ["--algorithm.preset", "gpg"], {"age": True, "kl_beta": 0.0}),
        ("algorithm: {preset: gspo}", ["--algorithm.preset", "grpo"], {"ratio": "token", "clip": 0.2}),
        (
            "algorithm: {preset: gspo, clip_high: 0.3, ratio: sequence}",
            ["--algorithm.preset", "gpg"],
            {"ratio": "token", "clip_high": None},
        ),
    ],
)
def test_what_is_written_out_wins_over_the_preset(load, text, options, expected):
    algorithm = load(text, *options).algorithm
    assert {knob: getattr(algorithm, knob) for knob in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rollout.group_size", "1"], "group_size must be at least 2, got 1"),
        (["--rollout.temperature", "0"], "temperature must be above 0"),
        (["--rollout.temperature", "nan"], "temperature"),
        (["--rollout.stop", '["</answer>", ""]'], "stop holds an empty text"),
        (["--algorithm.kl_beta", "0.1"], "for algorithm.kl_beta above 0 choose another algorithm.preset"),
        (["--algorithm.updates_per_rollout", "2"], "updates_per_rollout must be 1 for preset 'gpg'"),
        (["--algorithm.mini_batches", "2"], "mini_batches must be 1 for preset 'gpg'"),
        (["--algorithm.mini_batches", "17"], "mini_batches is 1 to algorithm.questions_per_step, got 17"),
        (["--algorithm.min_valid_fraction", "1.5"], "share from 0 to 1, got 1.5"),
        (["--algorithm.clip", "0"], "clip must lie between 0 and 1"),
        (
            ["--algorithm.clip_high", "0.3"],
            "for algorithm.ratio, algorithm.clip or algorithm.clip_high choose",
        ),
        (["--algorithm.ratio", "sequence"], "preset 'gpg' has no ratio"),
        (["--algorithm.clip", "0.1"], "preset 'gpg' has no ratio"),
        (["--algorithm.preset", "dapo", "--algorithm.clip_high", "0"], "clip_high must be above 0"),
        (["--algorithm.importance_cap", "0.5"], r"is 0 \(off\) or at least 1, got 0\.5"),
        (["--algorithm.importance_cap", "-1"], "importance_cap"),
        (["--algorithm.importance_cap", "nan"], "importance_cap"),
        (["--algorithm.preset", "ppo"], "algorithm.preset.*gpg.*grpo.*dr_grpo"),
        (["--model.min_pixels", "500000"], "at most model.max_pixels; got 500000 and 401408"),
        (["--prompt.template", "base", "--prompt.instruction", "Think."], "belongs to template 'instruct'"),
        (["--optim.learning_rate", "0"], "learning_rate must be positive"),
        (["--optim.final_lr_ratio", "2"], "final_lr_ratio is a share"),
        (["--run.steps", "0"], "run.steps must be positive"),
        (["--run.keep_last", "0"], "keep_last must be at least 1"),
        (["--run.steps", "many"], "run.steps.*many"),
        (["--rewards", "{}"], "rewards is empty"),
        (["--data.train", "[]"], "data.train is empty: name a folder written by `gpg-vl prepare`"),
        (["--out", ""], "out is not set"),
        (["--model.path", ""], "model.path is not set"),
        (["--config", "no_such.yaml"], "no_such.yaml"),
    ],
)
def test_values_out_of_range_or_at_odds_are_refused(load, options, message):
    with pytest.raises(ConfigurationError, match=message):
        load("", *options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: 3", "rollout is a section of options, got 3"),
        ("rollout: [", "is not YAML"),
        ("model: {path: {a: 3}}", "model.path"),
        ("run: {steps: 3}\nrun.steps: 5", "line 2: 'run.steps' stands in line 1 already"),
        (
            "a: &a [1, 1, 1, 1]\n"
            + "".join(f"{y}: &{y} [{', '.join(4 * [f'*{x}'])}]\n" for x, y in pairwise("abcdefghijklmnop")),
            "more than 10,000 values",
        ),
    ],
)
def test_a_file_of_another_shape_is_refused(load, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load(text)


def test_a_file_starts_no_processes(tmp_path):
    (tmp_path / "config.yaml").write_text("accelerate: zero2")
    words = [*INPUTS, "--config", str(tmp_path / "config.yaml")]
    with pytest.raises(ConfigurationError, match="accelerate and processes belong on the command line"):
        parse_command(TrainConfig, words, taken=launch_options())


def test_group_size_is_checked_without_a_parser_too():
    with pytest.raises(ConfigurationError, match="group_size"):
        RolloutConfig(group_size=1)


def test_temperatures_that_vllm_refuses_are_refused_before():
    assert RolloutConfig(temperature=2.5).temperature == 2.5
    with pytest.raises(ConfigurationError, match=r"from 0\.01 to 2 on vLLM"):
        RolloutConfig(temperature=2.5, engine="vllm")


def test_rewards_in_a_file_replace_the_defaults(load):
    table = {"choice": 2.0, "my.dir/rewards.py:shouting": {"weight": 0.1, "limit": 0.3}}
    assert load(yaml.safe_dump({"rewards": table})).rewards == table
    routes = {"by_task": {"cv_bench/Count": {"choice": 1.0}, "math": {"number": {"tolerance": 0.01}}}}
    assert load(yaml.safe_dump({"rewards": routes})).rewards == routes


def test_yaml_round_trip(load, tmp_path):
    config = load(
        "algorithm: {preset: grpo, age: true}\n"
        "rewards: {choice: 1, my.dir/rewards.py:shouting: {weight: 0.1, limit: 0.3}}\n"
        "rollout: {stop: ['</answer>', '。']}\n"
        "run: {trackers: [tensorboard]}\n",
        *("--optim.betas", "[0.8, 0.98]", "--prompt.instruction", "Überlege: {kind}"),
    )
    assert config.optim.betas == (0.8, 0.98)
    assert config.prompt == Prompt(instruction="Überlege: {kind}")
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(config))
    assert load_config(TrainConfig, ["--config", str(file)]) == config


def test_yaml_round_trip_of_the_warm_start(load, tmp_path):
    config = load("batch_size: 4", kind=SftConfig)
    assert (config.batch_size, config.optim.learning_rate) == (4, 1e-5)
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(config))
    assert load_config(SftConfig, ["--config", str(file)]) == config


def test_resume_is_beside_the_configuration():
    assert parse_command(TrainConfig, [*INPUTS, "--resume", "auto"])[1] == "auto"
    assert parse_command(TrainConfig, INPUTS)[1] is None


def recipe(file: Path) -> TrainConfig | SftConfig:
    """A recipe as it stands; the quickstart's get their inputs from the quickstart."""
    kind = SftConfig if "batch_size" in yaml.safe_load(file.read_text()) else TrainConfig
    inputs = INPUTS if file.stem.startswith("quickstart") else []
    return load_config(kind, ["--config", str(file), *inputs])


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_loads(file):
    config, values = recipe(file), yaml.safe_load(file.read_text())
    for section, given in values.items():
        loaded = getattr(config, section)
        if section != "rewards" and isinstance(given, dict):
            for key, value in given.items():
                assert getattr(loaded, key) in (value, tuple(value) if isinstance(value, list) else value)
        else:
            assert loaded == given


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_has_its_own_run_folder_and_rewards_that_exist(file):
    config = recipe(file)
    assert config.out == (INPUTS[1] if file.stem.startswith("quickstart") else f"runs/{file.stem}")
    if isinstance(config, TrainConfig):
        Scorer(config.rewards)


def test_the_baseline_differs_in_the_algorithm_only():
    ours, baseline = (
        to_yaml(recipe(CONFIGS / f"{name}.yaml")) for name in ("qwen2_vl_2b_sat_cvbench", "grpo_baseline")
    )
    one, other = yaml.safe_load(ours), yaml.safe_load(baseline)
    assert {section for section in one if one[section] != other[section]} == {"out", "algorithm"}
    assert one["algorithm"]["questions_per_step"] == other["algorithm"]["questions_per_step"]


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("qwen3_vl_2b_sat_cvbench", "qwen2_vl_2b_sat_cvbench"),
        ("qwen3_vl_4b_lisa", "qwen2_vl_2b_lisa"),
    ],
)
def test_recipes_of_qwen3_vl_say_where_they_leave_the_papers_run(name, origin):
    def lines(stem: str) -> dict[str, tuple[str, str]]:
        """By section and key: the value, and the remark beside it."""
        found, section = {}, ""
        for line in (CONFIGS / f"{stem}.yaml").read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, rest = line.partition(":")
                section = section if line.startswith(" ") else key
                value, _, remark = rest.partition("#")
                found[f"{section}.{key.strip()}"] = (value.strip(), remark)
        return found

    ours, theirs = lines(name), lines(origin)
    assert ours.keys() >= theirs.keys()
    changed = {key for key, (value, _) in ours.items() if value != theirs.get(key, ("",))[0]} - {"out.out"}
    assert changed and all("our choice" in ours[key][1] for key in changed)
    limits = recipe(CONFIGS / f"{name}.yaml").model.pixels
    assert {name: pixels / 32**2 for name, pixels in limits.items()} == {"min_pixels": 64, "max_pixels": 512}
    assert recipe(CONFIGS / f"{origin}.yaml").model.max_pixels / 28**2 == 512


def test_a_preset_on_the_command_line_wins_over_a_runs_own_file(load):
    """A run's config.yaml spells out every knob; `--algorithm.preset grpo` must not run GPG all the same."""
    everything = to_yaml(load())
    grpo = load(everything, "--algorithm.preset", "grpo", "--algorithm.kl_beta", "0").algorithm
    assert (grpo.std_normalize, grpo.age, grpo.normalize, grpo.kl_beta) == (True, False, "sequence", 0)
    back = load(to_yaml(load("", "--algorithm.preset=grpo")), "--algorithm.preset=gpg").algorithm
    assert back == load().algorithm


@pytest.mark.parametrize(
    ("kind", "option", "command"),
    [(SftConfig, "rollout.group_size", "train"), (TrainConfig, "batch_size", "sft")],
)
def test_an_option_of_the_other_command_is_told_as_such(kind, option, command):
    with pytest.raises(ConfigurationError, match=f"'{option}' is an option of `gpg-vl {command}`"):
        load_config(kind, ["--out", "x", f"--{option}", "4"])


def test_one_folder_needs_no_brackets(load):
    assert load("", "--data.train", "data/a").data.train == ["data/a"]


@pytest.mark.parametrize(
    "words", [["--data.train=a", "b/"], ["--data.train", "a", "b/"], ["--data.train=[a, b/]"]]
)
def test_folders_however_they_are_typed(load, words):
    assert load("", *words).data.train == ["a", "b/"]


def test_the_last_folders_win_as_any_options_last_value_does(load):
    assert load("", "--data.train", "a", "b", "--data.train=c").data.train == ["c"]


def test_values_that_begin_with_a_dash(load):
    assert load("", "--prompt.instruction", "-e").prompt.instruction == "-e"
    with pytest.raises(ConfigurationError, match="learning_rate must be positive"):
        load("", "--optim.learning_rate", "-1e-5")


def test_a_config_file_by_an_equals_sign_and_under_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("algorithm: {age: false}")
    for words in (["--config=~/my.yaml"], ["--config", "~/my.yaml"]):
        assert not load_config(TrainConfig, [*words, *INPUTS]).algorithm.age
        config = load_config(TrainConfig, [*words, *INPUTS, "--algorithm.preset=gpg"])
        assert config.algorithm.age


def test_home_is_expanded_in_every_path(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text = "{out: ~/a, model: {path: ~/m}, data: {train: [~/b], validation: [~/c]}, rewards: {~/d.py:e: 1}}"
    file = load(f"{text}")
    assert list(file.rewards) == ["/home/me/d.py:e"] and file.data.validation == ["/home/me/c"]
    config = load("", "--out=~/a", "--model.path=~/m", "--data.train=~/b")
    assert (config.out, config.model.path, config.data.train) == ("/home/me/a", "/home/me/m", ["/home/me/b"])
    rewards = {"by_task": {"t": {"~/d.py:e": 1}}}
    routes = TrainConfig("~/a", ModelConfig("a/b"), data=DataConfig(["~/b"]), rewards=rewards)
    assert routes.out == "/home/me/a" and routes.model.path == "a/b" and routes.data.train == ["/home/me/b"]
    assert routes.rewards == {"by_task": {"t": {"/home/me/d.py:e": 1}}}
    assert EvalSettings("~/m", "scenes", out="~/none.json").out == "/home/me/none.json"
    with pytest.raises(ConfigurationError, match="no home folder '~nobody-is-called-so'"):
        load("", "--out=~nobody-is-called-so/x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunConfig(seed=-1), "run.seed must be from 0"),
        (lambda: RunConfig(seed=True), "run.seed must be a whole number, got True"),
        (lambda: RunConfig(steps=2.5), "run.steps must be a whole number"),
        (lambda: RunConfig(steps=10**20), "run.steps must be a whole number"),
        (lambda: RunConfig(phase_limit=float("inf")), "run.phase_limit must be a finite number"),
        (lambda: OptimConfig(betas=(0.9,)), "optim.betas must be 2 values"),
        (lambda: OptimConfig(learning_rate="1e-6"), "optim.learning_rate must be a finite number"),
        (lambda: DataConfig(train="folder"), "data.train must be a list"),
        (lambda: ModelConfig(path=Path("m")), "model.path must be text"),
        (lambda: EvalSettings("m", "b", seed=-1), "--seed must be from 0"),
        (lambda: EvalSettings("m", "b", temperature=float("nan")), "--temperature must be a finite number"),
    ],
)
def test_python_users_are_told_too(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_in_python_are_those_of_the_command_line(load, preset):
    assert AlgorithmConfig.of(preset) == load("", "--algorithm.preset", preset).algorithm
    assert AlgorithmConfig.of("grpo", kl_beta=0.5, age=True).std_normalize


def test_options_are_not_abbreviated(load):
    """An abbreviated preset would slip past the rule that it wins over the file's knobs."""
    with pytest.raises(ConfigurationError, match=r"unknown option 'algorithm\.prese'"):
        load("", "--algorithm.prese", "grpo")


def test_a_text_that_begins_with_a_hash_is_no_comment(load):
    """An instruction in Markdown would be none, and the template's own asked instead."""
    assert load("prompt: {instruction: '# Task'}").prompt.instruction == "# Task"
    assert load("", "--prompt.instruction", "# Task\nThink.").prompt.instruction == "# Task\nThink."
    assert load("prompt: {instruction: null}").prompt.instruction is None
