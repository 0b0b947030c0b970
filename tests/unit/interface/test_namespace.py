"""`import gpg_vl`: what is there, and how little it costs."""

import subprocess
import sys
import typing

import pytest

import gpg_vl

NAMES = {
    *("Answers", "Callback", "Comparison", "Completion", "Evaluation", "Model", "Run", "Sample", "Step"),
    *("__version__", "compare", "evaluate", "load", "prepare", "read", "reward", "score"),
    *("sft", "steps", "train"),
}


def test_the_contract():
    assert set(gpg_vl.__all__) == NAMES
    assert set(dir(gpg_vl)) >= NAMES
    for name in NAMES - {"__version__"}:
        assert getattr(gpg_vl, name).__doc__, name


@pytest.mark.parametrize("name", ["load", "score", "train", "steps", "sft", "evaluate", "compare", "prepare"])
def test_functions_are_typed(name):
    function = getattr(gpg_vl, name)
    hints = typing.get_type_hints(function)
    code = function.__code__
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    assert set(named) <= set(hints) and "return" in hints


def test_importing_it_loads_nothing_heavy():
    code = "import sys, gpg_vl; dir(gpg_vl); print([name for name in sys.modules if '.' not in name])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "datasets", "numpy", "pandas", "jsonargparse", "PIL", "yaml"}
    assert not heavy & set(eval(output.stdout))


def test_importing_it_is_quick():
    """Beside an interpreter that does nothing, so that the machine's speed does not matter."""
    once = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"

    def seconds(statement: str) -> float:
        command = [sys.executable, "-c", once.format(statement)]
        return min(
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        )

    assert seconds("import gpg_vl") < 0.1


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        gpg_vl.trainer  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Reward'"):
        from gpg_vl import Reward  # noqa: F401


def brief(completion, sample):
    """A reward, to be named in a message."""


def test_a_habit_of_trl_is_answered_with_our_call():
    from gpg_vl import GRPOConfig, GRPOTrainer

    options = GRPOConfig(num_generations=8, learning_rate=1e-6, max_steps=10, bf16=True)
    with pytest.raises(TypeError) as raised:
        GRPOTrainer("Qwen/Qwen2-VL-2B-Instruct", [brief], args=options, train_dataset=object())
    assert str(raised.value) == (
        "gpg_vl has no GRPOTrainer. Its call is gpg_vl.train(model='Qwen/Qwen2-VL-2B-Instruct', data=…, "
        "rewards=[brief], steps=10, algorithm={'preset': 'grpo'}, rollout={'group_size': 8}, "
        "optim={'learning_rate': 1e-06}); see docs/python.md"
    )


def test_the_call_that_a_habit_shows_is_one_that_works():
    """Every option that it translates to is one of the configuration."""
    from gpg_vl.config import TrainConfig
    from gpg_vl.config_file import fields_of
    from gpg_vl.interface.habits import _ARGUMENTS, _OPTIONS
    from gpg_vl.interface.settings import Settings

    known = set(fields_of(TrainConfig)) | set(Settings.__annotations__) | {"callbacks"}
    assert {*_ARGUMENTS.values(), *_OPTIONS.values()} <= known
    with pytest.raises(TypeError, match=r"gpg_vl.sft\(model='m', data=…\)"):
        gpg_vl.SFTTrainer(model="m")
