import importlib
import sys

import pytest

from gpg_vl.errors import ConfigurationError, UnknownNameError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.registry import Reward, converters, reward, rewards
from gpg_vl.types import Sample

PLUGINS = """
from gpg_vl.registry import reward

@reward("shouting", kind="shaping")
def any_name(completion, sample, *, limit: float = 0.2, needed):
    return float(completion.text.isupper())

def bare(completion, sample):
    return 0.5

def trl(completions, answer, **columns):
    return [float(a in c) for c, a in zip(completions, answer)]

def trl_with_prompts(prompts, completions, **columns):
    return [float(len(c)) for c in completions]

constant = 3
"""


@pytest.fixture
def plugin_file(tmp_path):
    file = tmp_path / "my_rewards.py"
    file.write_text(PLUGINS)
    return file


def install(folder, package, entry_points):
    """What an installed package leaves on the path: its metadata."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    importlib.invalidate_caches()


def test_built_in_rewards_and_converters_are_announced():
    assert {"choice", "format", "number"} <= set(rewards.announced())
    assert {"nlvr", "scenes"} <= set(converters.announced())
    assert (rewards.get("choice").name, rewards.get("choice").kind) == ("choice", "correctness")
    assert rewards.get("format").kind == "shaping"
    assert converters.get("nlvr").version == "1"


def test_a_name_in_a_file(plugin_file):
    registered = rewards.get(f"{plugin_file}:shouting")
    assert (registered.name, registered.kind) == ("shouting", "shaping")
    assert registered.function.__name__ == "any_name"
    assert rewards.get(f"{plugin_file}:any_name") == registered


def test_a_bare_function_gets_its_reference_as_name(plugin_file):
    plugin = rewards.get(f"{plugin_file}:bare")
    assert plugin.name == f"{plugin_file}:bare"
    assert plugin.kind == "correctness"
    assert not plugin.is_batch
    assert plugin.function(None, None) == 0.5


def test_a_file_is_loaded_once_and_not_taken_for_another(tmp_path):
    for folder, file, value in [("a", "b_c.py", 1), ("a_b", "c.py", 2)]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(f"def f(completion, sample):\n    return {value}\n")
    first = rewards.get(f"{tmp_path}/a/b_c.py:f").function
    second = rewards.get(f"{tmp_path}/a_b/c.py:f").function
    assert (first(None, None), second(None, None)) == (1, 2)
    assert rewards.get(f"{tmp_path}/a/../a/b_c.py:f").function is first


def test_a_name_in_a_module(plugin_file, monkeypatch):
    assert rewards.get("gpg_vl.rewards.format:format") is rewards.get("format")
    assert rewards.get("gpg_vl.rewards.format:format_reward") is rewards.get("format")
    monkeypatch.syspath_prepend(plugin_file.parent)
    assert rewards.get("my_rewards:bare").name == "my_rewards:bare"
    monkeypatch.delitem(sys.modules, "my_rewards")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("choise", UnknownNameError, "Did you mean 'choice'?"),
        ("qqqq", UnknownNameError, "unknown reward 'qqqq'; known: choice, "),
        ("{file}:shoutin", UnknownNameError, "my_rewards.py 'shoutin'; known: "),
        ("{file}:constant", ConfigurationError, "my_rewards.py:constant' is not a function"),
        ("nowhere/rewards.py:f", ConfigurationError, "no file 'nowhere/rewards.py' to load a plug-in from"),
        ("no_such_package.x:f", ConfigurationError, "no module named 'no_such_package' is installed"),
        ("gpg_vl.no_such:f", ConfigurationError, "no module named 'gpg_vl.no_such' is installed"),
        ("gpg_vl.rewards.choice:f", UnknownNameError, "unknown reward in gpg_vl.rewards.choice 'f'"),
        ("gpg_vl.data_prep.nlvr:nlvr", ConfigurationError, "is a converter, no reward"),
    ],
)
def test_what_cannot_be_found_is_named(plugin_file, reference, error, message):
    with pytest.raises(error) as caught:
        rewards.get(reference.format(file=plugin_file))
    assert message in str(caught.value)


def test_nothing_installed_says_how_to_mend_it():
    empty = type(rewards)("reward", "gpg_vl.no_such_group", Reward)
    with pytest.raises(UnknownNameError, match=r"known: none\. Reinstall the package: pip install -e \."):
        empty.get("choice")


def test_what_a_plugin_file_itself_lacks_is_not_hidden(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import no_such_dependency\n")
    for _ in range(2):  # a failed load is not kept
        with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
            rewards.get(f"{file}:f")


def test_options(plugin_file):
    shouting = rewards.get(f"{plugin_file}:shouting")
    assert list(shouting.options) == ["limit", "needed"]
    shouting.check_options({"needed": 1})
    shouting.check_options({"needed": 1, "limit": 0.5})
    with pytest.raises(ConfigurationError, match="'shouting' needs the option 'needed'"):
        shouting.check_options({"limit": 0.5})
    with pytest.raises(ConfigurationError, match=r"'limitt'; known: limit, needed\. Did you mean 'limit'\?"):
        shouting.check_options({"needed": 1, "limitt": 0.5})
    with pytest.raises(
        ConfigurationError, match=r"unknown option of reward 'choice' 'tolerance'; known: none"
    ):
        rewards.get("choice").check_options({"tolerance": 1})


def test_functions_written_for_trl_are_seen_by_their_parameter(plugin_file):
    trl = rewards.get(f"{plugin_file}:trl")
    assert trl.is_batch
    assert trl.function(["ab", "c"], ["b", "b"]) == [1.0, 0.0]
    assert rewards.get(f"{plugin_file}:trl_with_prompts").is_batch
    assert not rewards.get("choice").is_batch


def test_the_decorator_leaves_the_function_as_it_is():
    @reward("one")
    def one(completion, sample):
        """Doc."""
        return 1.0

    sample = Sample("1", "t", "Q?", "(A)", "choice")
    completion = parse_completion("x", think_opened=False, token_count=1, finish_reason="eos")
    assert one(completion, sample) == 1.0
    assert one.__doc__ == "Doc."
    assert one.plugin == Reward("one", one, "correctness")


def test_a_package_announces_a_reward(site):
    (site / "their_rewards.py").write_text(PLUGINS)
    install(site, "theirs", "[gpg_vl.rewards]\nloud = their_rewards:any_name\nplain = their_rewards:bare\n")
    assert rewards.get("loud").name == "shouting"
    assert rewards.get("plain").name == "plain"
    assert {"choice", "loud", "plain"} <= set(rewards.announced())
    with pytest.raises(UnknownNameError, match="Did you mean 'plain'"):
        rewards.get("plane")
    del sys.modules["their_rewards"]


def test_two_packages_with_one_name_are_refused(site):
    install(site, "theirs", "[gpg_vl.rewards]\nchoice = their_rewards:choice\n")
    with pytest.raises(ConfigurationError) as caught:
        rewards.get("choice")
    message = str(caught.value)
    assert "several packages announce the reward 'choice'" in message
    assert "theirs (their_rewards:choice)" in message
    assert "gpg-vl (gpg_vl.rewards.choice:choice)" in message
    assert rewards.get("gpg_vl.rewards.choice:choice").name == "choice"
    assert rewards.get("format").name == "format"  # the others are not in the way


def test_the_same_announcement_twice_is_no_conflict(site):
    install(site, "copy", "[gpg_vl.rewards]\nchoice = gpg_vl.rewards.choice:choice\n")
    assert rewards.get("choice").name == "choice"


def test_the_decorator_takes_a_name_settings_both_or_neither():
    @reward
    def bare(completion, sample): ...

    @reward()
    def called(completion, sample): ...

    @reward("other")
    def named(completion, sample): ...

    @reward(kind="shaping", concurrency=4, workers=2, relative=True)
    def with_settings(completions): ...

    made = [one.plugin for one in (bare, called, named, with_settings)]
    assert [one.name for one in made] == ["bare", "called", "other", "with_settings"]
    assert [one.kind for one in made] == ["correctness"] * 3 + ["shaping"]
    assert (made[3].concurrency, made[3].workers, made[3].relative) == (4, 2, True)
    assert bare.__name__ == "bare" and made[0] == Reward("bare", bare)
    with pytest.raises(TypeError, match="limit"):
        reward(limit=3)(bare)


TYPED = """
from __future__ import annotations
from typing import Any, Literal, Optional
from pathlib import Path
from gpg_vl.registry import reward

@reward
def typed(
    completion, sample, *, limit: float = 0.2, count: int = 1, flag: bool = False, word: str = "a",
    mode: Literal["a", "b"] = "a", maybe: Optional[int] = 3, weights: list[float] = (),
    pair: tuple[int, int] = (1, 2), table: dict[str, float] = None, none: float = None, bare=None,
    anything: Any = 1, path: Path = None,
):
    return 1.0

@reward
def unknown(completion, sample, *, limit: NotImported = 1):
    return 1.0
"""


@pytest.mark.parametrize(
    ("option", "good", "bad", "wanted"),
    [
        ("limit", 3, "high", "a finite number, got 'high'; it is declared as `limit: "),
        ("limit", 0.5, True, "a finite number, got True"),
        ("count", 2, 1.5, "a whole number"),
        ("flag", True, 1, "true or false"),
        ("word", "b", 3, "text"),
        ("mode", "b", "c", "one of 'a', 'b'"),
        ("maybe", None, "x", "a whole number or null"),
        ("weights", [1, 0.5], [1, "x"], "a list, each of its values a finite number"),
        ("pair", [3, 4], [3], "2 values, each a whole number"),
        ("table", {"a": 1}, [1], "a table whose keys are text"),
        ("none", None, "x", "a finite number"),
    ],
)
def test_values_of_options_are_held_to_their_annotations(tmp_path, option, good, bad, wanted):
    (tmp_path / "typed.py").write_text(TYPED)
    typed = rewards.get(f"{tmp_path / 'typed.py'}:typed")
    typed.check_options({option: good, "bare": object(), "anything": "x", "path": "a/b"})
    with pytest.raises(ConfigurationError) as caught:
        typed.check_options({option: bad})
    assert f"option {option!r} of reward 'typed' must be {wanted}" in str(caught.value)
    rewards.get(f"{tmp_path / 'typed.py'}:unknown").check_options({"limit": "anything"})


def test_what_a_file_holds(plugin_file, tmp_path):
    assert list(rewards.in_file(str(plugin_file))) == ["shouting", "bare", "trl", "trl_with_prompts"]
    (tmp_path / "empty.py").write_text("def helper(a, b): ...\ndef _completion(completion): ...\n")
    with pytest.raises(ConfigurationError, match=r"no reward in '.*empty\.py': register one with `@reward`"):
        rewards.in_file(str(tmp_path / "empty.py"))
    with pytest.raises(ConfigurationError, match=r"name a reward in it, as '.*\.py:shouting'; it has: sh"):
        rewards.get(str(plugin_file))
