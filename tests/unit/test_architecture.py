"""The house: which rooms import which, how they are installed, how large things are."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.wheels import build_wheel

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "gpg_vl": "gpg_vl",
    "gpg_vl.rewards": "rewards",
    "gpg_vl.data_prep": "data_prep",
    "gpg_vl.configs": "configs",
    "gpg_vl.demo": "demo",
}
FLOORS = {
    "cli": "parse, call, print; start processes",
    "interface": "what Python programs call: import gpg_vl",
    "quickstart": "the five-minute tour",
    "preflight": "what would go wrong, before it costs a GPU hour",
    "report": "what training changed, as one page",
    "training": "the loop, and what it works with",
    "evaluation": "benchmarks, grading, intervals, comparisons",
    "algorithm": "the paper: collect, advantages, losses, batch",
    "scoring": "run rewards on answers, and try to fool them",
    "runs": "a run's folder and what is in it",
    "rollout": "questions in, groups of answers out",
    "data": "prepared data sets",
    "model": "the policy: load, pack, forward, save; model families",
    "settings": "what a user can set, read and written: config, options",
    "prompting": "what the model reads and writes as text and boxes",
    "runtime": "processes, signals, profiling, progress, whole files",
    "ground": "the nouns that everybody uses",
}
"""From the top down: a room imports itself and those below it."""
OF_A_FILE = {
    **dict.fromkeys(
        ("config", "weights_config", "rollout_config", "difficulty_config", "config_file", "options"),
        "settings",
    ),
    **dict.fromkeys(
        ("types", "errors", "checks", "yaml_file", "registry", "stats", "tables", "theme", "environment"),
        "ground",
    ),
    "__main__": "cli",
    "__init__": "interface",
}
"""The floors of files that stand in no folder."""
PLUGIN_IMPORTS = (
    "gpg_vl.types",
    "gpg_vl.registry",
    "gpg_vl.errors",
    "gpg_vl.prompting.prompts",
    "gpg_vl.prompting.boxes",
    "gpg_vl.prompting.box_geometry",
    "gpg_vl.data.images",
    "gpg_vl.data.gold_answers",
    "gpg_vl.data.row_format",
    "gpg_vl.runtime.hub",
    "gpg_vl.runtime.threads",
    "gpg_vl.scoring.counters",
)
"""What rewards and converters may import of gpg_vl."""


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules imported anywhere in a file, as `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # Two dots in rewards/ or data_prep/ would be gpg_vl itself.
            module = str(node.module) if node.level == 0 else "gpg_vl." * (node.level - 1) + str(node.module)
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


@pytest.mark.parametrize("path", sources("rewards", "data_prep"), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_import_little(path):
    for name in imports(path):
        assert name.split(".")[0] != "torch", f"{path.name} imports {name}"
        if name.startswith("gpg_vl."):
            assert f"{name}.".startswith(tuple(f"{allowed}." for allowed in PLUGIN_IMPORTS)), name


def module(path: Path) -> str:
    """A file of gpg_vl/ as it is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sources("gpg_vl")}


def imported_modules(path: Path) -> set[str]:
    """The files of gpg_vl/ that a file imports anywhere; a lazy import counts like any other."""
    return {name for name in imports(path) if name in MODULES and name not in ("gpg_vl", module(path))}


def floor(name: str) -> int:
    room = name.split(".")[1] if "." in name else "__init__"
    return list(FLOORS).index(OF_A_FILE.get(room, room))


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_rooms_below_it(name):
    above = [other for other in imported_modules(MODULES[name]) if floor(other) < floor(name)]
    assert not above, f"{name} imports {above}"


def test_modules_import_each_other_in_no_circle():
    graph = {name: imported_modules(path) for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # raises CycleError


DEMO_FLOORS = ("app", "serving", "api", "tabs", "addresses", "wiring", "reading", "parts", "links", "service")
"""Of the web app, likewise; `command` stands beside them."""


@pytest.mark.parametrize("path", sources("demo"), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_the_app_has_floors_too(path):
    own = path.relative_to(ROOT / "demo").with_suffix("").parts[0]
    above = DEMO_FLOORS[: DEMO_FLOORS.index(own)] if own in DEMO_FLOORS else ()
    dots = len(path.relative_to(ROOT / "demo").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == dots:
            assert str(node.module).split(".")[0] not in above, ast.unparse(node)


def test_the_readme_shows_the_rooms_from_the_top_down():
    table = (ROOT / "README.md").read_text().partition("The rooms of `gpg_vl/`")[2]
    shown = re.findall(r"^\| \[`(\w+)", table, re.MULTILINE)
    assert shown == [room for room in FLOORS if room not in ("settings", "ground")]


def test_every_room_says_what_it_is_for():
    # A checkout that is not installed has links here: docs/benchmarks.md.
    folders = [path for path in (ROOT / "gpg_vl").iterdir() if not path.is_symlink()]
    rooms = [path for path in folders if (path / "__init__.py").is_file()]
    assert {room.name for room in rooms} == set(FLOORS) - {"settings", "ground"}
    for room in rooms:
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room.name


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES.keys())
def test_the_library_imports_no_plugin_folder(path):
    forbidden = ("gpg_vl.rewards.", "gpg_vl.data_prep.", "gpg_vl.demo")
    assert not [name for name in imports(path) if f"{name}.".startswith(forbidden)]


def test_light_modules_load_without_torch():
    modules = "gpg_vl.types, gpg_vl.prompting.prompts, gpg_vl.registry, gpg_vl.cli.main"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "False"


def test_packages_are_those_on_disk():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["package-dir"] == FOLDERS
    on_disk = {
        ".".join([name, *path.parent.relative_to(ROOT / folder).parts])
        for name, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(setuptools["packages"]) == sorted(on_disk)
    top = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert top == set(FOLDERS.values())


def test_every_plugin_file_is_announced():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, folder in (("gpg_vl.rewards", "rewards"), ("gpg_vl.datasets", "data_prep")):
        announced = {target.split(":")[0].split(".")[-1] for target in groups[group].values()}
        assert announced == {p.stem for p in (ROOT / folder).glob("[!_]*.py")}


@pytest.mark.parametrize("name", ["rewards", "data_prep", "demo"])
def test_folders_refuse_another_name(name):
    output = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert output.returncode == 1
    assert f"import it as 'gpg_vl.{name}'" in output.stderr.splitlines()[-1]


def test_wheel_has_one_top_level_package(tmp_path):
    names = zipfile.ZipFile(build_wheel(tmp_path)).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"gpg_vl"}
    assert {"gpg_vl/rewards/choice.py", "gpg_vl/training/train.py", "gpg_vl/py.typed"} <= set(names)
    assert {f"gpg_vl/{file.relative_to(ROOT)}" for file in (ROOT / "configs").rglob("*.yaml")} <= set(names)


@pytest.mark.parametrize(
    "path", sources(*FOLDERS.values(), "tests"), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_families_are_told_apart_in_their_adapters_alone():
    """Nothing else names a `model_type`: what differs between families is asked of their adapter."""
    announced = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    names = announced["gpg_vl.families"].keys()
    adapters = ROOT / "gpg_vl" / "model" / "families"
    named = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value!r}"
        for path in sources("gpg_vl", "rewards", "data_prep", "demo")
        if adapters not in path.parents
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert not named
    compared = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("gpg_vl", "rewards", "data_prep", "demo", "benchmarks")
        if adapters not in path.parents
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare | ast.Match)
        and any(getattr(part, "attr", None) == "model_type" for part in ast.walk(node))
    }
    assert not compared
    places = announced["gpg_vl.families"].values()
    assert all(place.startswith("gpg_vl.model.families.") for place in places)
