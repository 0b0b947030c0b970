"""The tests that need a GPU, run within a stage's process, which has imported everything."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.stage_process import Figures

_TESTS = Path(__file__).resolve().parents[1] / "tests"
FILES = [
    _TESTS / name
    for name in ("integration/test_gpu.py", "unit/model/test_fused.py", "invariant/test_flex.py")
]
_IMPORTED = "pytest.PytestAssertRewriteWarning"
"""Of plug-ins that were imported before pytest could see their assertions."""


class Outcomes:
    """A plug-in of pytest that keeps what became of every test."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test counts once, also where it was its set-up that failed or skipped it."""
        if report.failed:
            self._fail(report)
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._fail(report)

    def _fail(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        lines = report.longreprtext.splitlines()
        errors = [line for line in lines if line.startswith("E ")] or lines[-1:]
        self.failures.append(f"{report.nodeid}: {' '.join(' '.join(errors[:4]).split())}")


def run_tests(chosen: str, files: Sequence[Path] = FILES) -> Figures:
    """Run the GPU's tests in `files` that pytest's `-k` chooses. Raises SystemExit if none could be run."""
    outcomes = Outcomes()
    os.environ["GPG_VL_TEST_GPU"] = "1"
    options = ["-v", "-p", "no:cacheprovider", "-W", f"ignore::{_IMPORTED}", "-m", "gpu", "-k", chosen]
    status = pytest.main([*options, *map(str, files)], plugins=[outcomes])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not outcomes.failures:
        raise SystemExit(f"pytest ended with {pytest.ExitCode(status).name}")
    counts = {name: outcomes.counts[name] for name in ("passed", "failed", "skipped")}
    return {"outcomes": counts, "failures": outcomes.failures}
