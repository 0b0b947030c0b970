"""The example package of docs/: installed, listed, audited and trained with; and two packages at odds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpg_vl.cli.main import main

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "gpg-vl-shouting"


def install(source: Path, target: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)


def copied(folder: Path) -> Path:
    """A copy to build from: setuptools leaves its build/ beside the sources."""
    return Path(shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("build", "*.egg-info")))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    install(copied(folder / "source"), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def rival(tmp_path_factory) -> Path:
    """Another package that announces the same name."""
    folder = tmp_path_factory.mktemp("rival")
    source = copied(folder / "source")
    project = source / "pyproject.toml"
    project.write_text(
        project.read_text().replace("vl-shouting", "vl-rival").replace("vl_shouting", "vl_rival")
    )
    (source / "src" / "gpg_vl_shouting").rename(source / "src" / "gpg_vl_rival")
    install(source, folder / "site")
    return folder / "site"


def gpg_vl(*arguments: str, sites: tuple[Path, ...]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, sites), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "gpg_vl", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_commands_know_an_installed_package(site):
    assert "| shouting " not in gpg_vl("rewards", "list", sites=()).stdout
    listed = gpg_vl("rewards", "list", sites=(site,))
    assert "| gpg-vl-shouting (gpg_vl_shouting:shouting) " in listed.stdout, listed.stderr
    shown = gpg_vl("rewards", "show", "shouting", sites=(site,)).stdout
    assert shown.startswith("shouting (shaping)\n") and "limit: float = 0.2" in shown
    audited = gpg_vl("rewards", "audit", "shouting={limit: 0.5}", sites=(site,))
    assert audited.returncode == 0 and "passed: " in audited.stdout, audited.stdout + audited.stderr


def test_its_own_tests_pass(site, tmp_path):
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tests),
        str(tests),
    ]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_training_with_an_installed_packages_reward(site, tiny_folder, scenes_folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(site)
    out = tmp_path / "run"
    main(
        [
            *(
                "train",
                "--out",
                str(out),
                "--model.path",
                str(tiny_folder),
                "--data.train",
                str(scenes_folder),
            ),
            *("--rewards", '{"choice": 1.0, "shouting": {"weight": 0.5, "limit": 0.1}}', "--run.steps", "3"),
            *("--algorithm.questions_per_step", "2", "--rollout.group_size", "4", "--run.threads", "1"),
            *("--rollout.max_new_tokens", "8", "--eval.max_new_tokens", "6"),
        ]
    )
    del sys.modules["gpg_vl_shouting"]
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 3
    assert all(0 < step["reward/shouting"] <= 1 for step in steps)
    # An untrained model names no choice: what these groups are trained on is the example's reward.
    assert all(step["groups/valid"] > 0 and step["grad_norm"] > 0 for step in steps)


def test_two_packages_with_one_name_are_both_named(site, rival):
    both = ("gpg-vl-shouting (gpg_vl_shouting:shouting)", "gpg-vl-rival (gpg_vl_rival:shouting)")
    listed = gpg_vl("rewards", "list", sites=(site, rival))
    [line] = [line for line in listed.stdout.splitlines() if line.startswith("| shouting ")]
    assert "| conflict " in line and all(name in line for name in both)
    for action in ("show", "audit"):
        refused = gpg_vl("rewards", action, "shouting", sites=(site, rival))
        assert refused.returncode == 2
        assert "several packages announce the reward 'shouting'" in refused.stderr
        assert all(name in refused.stderr for name in both)
    assert gpg_vl("rewards", "show", "gpg_vl_rival:shouting", sites=(site, rival)).returncode == 0
