import json

import pytest
import yaml

from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.config_file import fields_of, takes_several
from gpg_vl.errors import ConfigurationError
from gpg_vl.options import load_config, parse_command, to_yaml
from gpg_vl.yaml_file import dump_yaml, read_yaml

INPUTS = {"out": "runs/x", "model.path": "tiny", "data.train": "[d]"}


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


def options(given):
    return [word for name, value in (INPUTS | given).items() for word in (f"--{name}", value)]


def from_file(path, *more, kind=TrainConfig):
    """The inputs come first, so that the file's own win."""
    return load_config(kind, [*options({}), "--config", path, *more])


BESIDE = {
    "rollout.server.url": ["--rollout.engine", "server"],
    "model.lora_targets": ["--model.lora_rank", "4"],
}
"""What some options are at odds with everything without."""


SPELLINGS = [
    ("data.train", "one_folder", "one_folder"),
    ("data.train", "2024", "2024"),
    ("data.train", "2024-05-01", "2024-05-01"),
    ("data.train", '["a", "b"]', "[a, b]"),
    ("data.validation", "a", "a"),
    ("run.trackers", "tensorboard", "tensorboard"),
    ("run.trackers", "[tensorboard]", "[tensorboard]"),
    ("rollout.stop", "</answer>", "</answer>"),
    ("rollout.server.url", "http://a:1", "http://a:1"),
    ("rollout.server.url", '["http://a:1", "http://b:1"]', "[http://a:1, http://b:1]"),
    ("model.lora_targets", "q_proj", "q_proj"),
    ("optim.learning_rate", "1e-6", "1e-6"),
    ("optim.learning_rate", "1E-06", "1E-06"),
    ("optim.learning_rate", ".5e-6", ".5e-6"),
    ("optim.betas", "[9e-1, 0.99]", "[9e-1, 0.99]"),
    ("rollout.temperature", "1", "1"),
    ("run.steps", "1_000", "1_000"),
    ("run.keep_best", "no", "no"),
    ("data.shuffle", "off", "off"),
    ("data.workers", "null", "null"),
    ("run.packing", "none", "none"),
    ("out", "2024", "2024"),
    ("out", "007", "'007'"),
    ("out", "1e5", "1e5"),
    ("out", "yes", "yes"),
    ("out", "~/runs", "~/runs"),
    ("model.path", "1.5", "1.5"),
    ("prompt.instruction", "Answer: {kind}", "'Answer: {kind}'"),
    ("rewards", "{choice: 1e-1}", "{choice: 1e-1}"),
    ("rewards", '{"my.py:f": 1}', "{my.py:f: 1}"),
]


@pytest.mark.parametrize("form", ["section", "dotted", "half"])
@pytest.mark.parametrize(("option", "typed", "written"), SPELLINGS)
def test_a_file_takes_what_the_command_line_takes(file, option, typed, written, form):
    *sections, name = option.split(".")
    text = f"{option}: {written}"
    if form == "section":
        text = "".join(f"{part}: {{" for part in sections) + f"{name}: {written}" + "}" * len(sections)
    if form == "half" and len(sections) == 2:
        text = f"{sections[0]}: {{{sections[1]}.{name}: {written}}}"
    beside = BESIDE.get(option, [])
    expected = load_config(TrainConfig, [*options({option: typed}), *beside])
    assert from_file(file(text), *beside) == expected


def test_the_table_has_every_option_that_takes_a_list():
    lists = {name for name, hint in fields_of(TrainConfig).items() if takes_several(hint)}
    assert lists <= {option for option, _, _ in SPELLINGS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run:\n  steps: 3\n  stepz: 4", r"line 3: unknown option 'run\.stepz'\. Did you mean 'run\.steps'"),
        ("run.steps: 3\nrolout: {}", "line 2: unknown option 'rolout'. Did you mean 'rollout'"),
        ("out: a\nrun:\n  steps: many", r'line 3: option "run\.steps": expected a whole number.*many'),
        ("out: a\nrun:\n  trackers: tensorbord", r'line 3: option "run\.trackers".*expected one of'),
        ("out: a\nrun: 3", "line 2: run is a section of options, got 3"),
        ("run:\n", "line 1: run is a section of options, got None"),
        ("out: a\nrun:\n  steps: 3\n  save_every: 4\n bad: [", "line 5, column 2 is not YAML"),
        ("run: {steps: 3\n", "line 2, column 1 is not YAML"),
        ("out: a\nrun: {steps: 0}", r"line 2: run\.steps must be positive"),
        ("out: a\noptim:\n  learning_rate: .nan", "line 3: .*optim.learning_rate"),
        ("run:\n  steps: 3\nrun.steps: 4", r"line 3: 'run\.steps' stands in line 2 already"),
        ("rewards: 3\nrewards.choice: 1", "line 2: 'rewards' stands in line 1 already"),
        ("out: a\nconfig: b", "line 2: config belongs on the command line"),
        ("out: a\noverwrite: true", "line 2: overwrite belongs on the command line"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(file, text, message):
    path = file(text)
    with pytest.raises(ConfigurationError, match=f"^'{path}', {message}"):
        parse_command(TrainConfig, [*options({}), "--config", path])


def test_what_was_typed_is_not_blamed_on_the_file(file):
    with pytest.raises(ConfigurationError, match=r"^run\.steps must be positive"):
        from_file(file("run: {steps: 3}"), "--run.steps", "0")
    assert from_file(file("run: {steps: 0}"), "--run.steps", "3").run.steps == 3


def test_the_later_of_two_files_wins_and_is_blamed(file, tmp_path):
    first = file("run: {steps: 3, seed: 1}\nrewards: {choice: 1}")
    second = tmp_path / "second.yaml"
    second.write_text("run.steps: 4")
    assert from_file(first, "--config", str(second)).run.steps == 4
    second.write_text("run.steps: 0")
    with pytest.raises(ConfigurationError, match=r"second\.yaml', line 1: run\.steps"):
        from_file(first, "--config", str(second))


SHARED = """
model: {path: small}
batch_size: 4
algorithm: {preset: grpo}
rollout.group_size: 4
rewards: {choice: 1}
run: {steps: 7}
"""


def test_train_and_sft_share_a_file(file, capsys):
    path = file(SHARED)
    train = from_file(path)
    assert (train.rollout.group_size, train.run.steps, train.model.path) == (4, 7, "small")
    assert capsys.readouterr().err == f"note: train has no use for batch_size of {path!r}\n"
    sft = from_file(path, kind=SftConfig)
    assert (sft.batch_size, sft.run.steps, sft.model.path) == (4, 7, "small")
    told = capsys.readouterr().err
    assert told == f"note: sft has no use for algorithm, rollout, rewards of {path!r}\n"


@pytest.mark.parametrize("kind", [TrainConfig, SftConfig])
@pytest.mark.parametrize("line", ["rollout: {group_sice: 4}", "batch_sice: 4", "algorithm.presett: gpg"])
def test_what_neither_command_knows_is_refused(file, kind, line):
    with pytest.raises(ConfigurationError, match=r"line 8: unknown option .* Did you mean"):
        from_file(file(SHARED + line), kind=kind)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine.yaml"], "a configuration file is named by its option: --config mine.yaml"),
        (["runs/x/config.yml", "--run.steps", "3"], "--config runs/x/config.yml"),
        (["--confg", "mine.yaml"], r"unknown option 'confg'\. Did you mean --config mine\.yaml\?"),
        (["--confg=mine.yaml"], r"Did you mean --config mine\.yaml\?"),
        (["--resum", "auto"], r"Did you mean --resume auto\?"),
        (["--overwrit"], r"Did you mean --overwrite\?"),
        (["--run.stepz", "3"], r"Did you mean 'run\.steps'\?"),
        (["--algorithm.loss_type", "dapo"], r"Did you mean 'algorithm\.normalize'\?"),
        (["--optim.epsilon", "1e-8"], r"Did you mean 'optim\.eps'\?"),
        (["--scale_rewards", "false"], r"Did you mean 'algorithm\.std_normalize'\?"),
        (["--max_steps", "3"], r"Did you mean 'run\.steps'\?"),
    ],
)
def test_a_file_or_option_by_another_name_gets_a_hint(words, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_command(TrainConfig, [*words, *options({})])


def test_a_configuration_is_read_back_as_it_was(file):
    config = load_config(
        TrainConfig,
        options({"prompt.instruction": "1e-6", "rewards": json.dumps({"a.py:f": {"unit": "1e5"}})}),
    )
    assert load_config(TrainConfig, ["--config", file(to_yaml(config))]) == config
    values = {"a": "1e-6", "b": 1e-6, "c": ["x\x7f\u2028😀"]}
    assert read_yaml(file(dump_yaml(values))) == values
    assert from_file(
        file(yaml.safe_dump({"prompt": {"instruction": "x\x7f😀\ud7ff"}}))
    ).prompt.instruction == ("x\x7f😀\ud7ff")
