"""The house: which packages import which, how they are installed, how large things are."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "gpg_vl": "gpg_vl",
    "gpg_vl.rewards": "rewards",
    "gpg_vl.data_prep": "data_prep",
    "gpg_vl.configs": "configs",
    "gpg_vl.demo": "demo",
}
PLUGIN_IMPORTS = {"types", "registry", "prompts", "errors", "boxes", "images"}
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
        parts = name.split(".")
        if parts[0] == "gpg_vl" and len(parts) > 1:
            assert parts[1] in PLUGIN_IMPORTS, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sources("gpg_vl"), ids=lambda p: p.name)
def test_the_library_imports_no_plugin_folder(path):
    forbidden = ("gpg_vl.rewards.", "gpg_vl.data_prep.", "gpg_vl.demo")
    assert not [name for name in imports(path) if f"{name}.".startswith(forbidden)]


def test_light_modules_load_without_torch():
    code = (
        "import sys, gpg_vl.types, gpg_vl.prompts, gpg_vl.registry, gpg_vl.cli; print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "False"


def test_packages_are_those_on_disk():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["package-dir"] == FOLDERS
    assert sorted(setuptools["packages"]) == sorted(FOLDERS)
    on_disk = {
        p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests", "benchmarks")
    }
    assert on_disk == set(FOLDERS.values())


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
    source = tmp_path / "source"  # setuptools would leave its build/ in the checkout
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options], check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"gpg_vl"}
    assert {"gpg_vl/rewards/choice.py", "gpg_vl/py.typed"} <= set(names)
    assert {f"gpg_vl/{file.relative_to(ROOT)}" for file in (ROOT / "configs").rglob("*.yaml")} <= set(names)


@pytest.mark.parametrize(
    "path", sources(*FOLDERS.values(), "tests"), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 100, node.name
