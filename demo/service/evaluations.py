"""Two evaluations side by side: which there are, their comparison, and the questions that changed."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpg_vl.errors import DataError
from gpg_vl.evaluation.compare import Pair, compare
from gpg_vl.evaluation.figures import score_name
from gpg_vl.report.samples import outcome
from gpg_vl.runs.files import Evaluation, answers_of, paired_items, read_evaluation, read_metrics

ALL = "All"
FIXED, BROKEN = "Fixed", "Broken"
OUTCOMES = (ALL, FIXED, BROKEN, "Both right", "Still wrong")
_STEP = re.compile(r"step_(\d+)")


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same questions."""

    base: Evaluation
    trained: Evaluation
    pairs: Sequence[Pair]
    result: Mapping[str, Any]
    """What `gpg_vl.evaluation.compare.compare` found."""

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks in alphabetical order."""
        return list(self.result["tasks"])

    @property
    def score(self) -> str:
        """What the figures are, such as accuracy or mean IoU."""
        return score_name(self.trained)

    @property
    def measured(self) -> str:
        """What the figures are of: "accuracy on 640 questions of held_out"."""
        names = [Path(folder).name for folder in self.trained.get("data", ())]
        of = f" of {', '.join(names)}" if names else ""
        samples = self.trained.get("samples", 1)
        each = f", {samples} answers each" if samples > 1 and not self.score.endswith(f"@{samples}") else ""
        return f"{self.score} on {len(self.pairs):,} questions{of}{each}"


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of a run folder, looked up again whenever they are asked for."""

    run: Path | None
    """Absolute, so that it holds wherever the process goes; None without a run."""

    @classmethod
    def of(cls, run: str | None) -> "Evaluations":
        """Those of the folder that the command line names."""
        return cls(None if run is None else Path(run).resolve())

    def files(self) -> dict[str, Path]:
        """By their names, in the order of their steps; one that is still being written is left out.

        Without any in `run/eval`, those that lie in the folder itself, as `gpg-vl eval --out` may have put
        them.
        """
        if self.run is None:
            return {}
        stored = sorted(filter(_is_whole, (self.run / "eval").glob("*.json")))
        return {path.stem: path for path in stored or sorted(filter(_is_evaluation, self.run.glob("*.json")))}

    def stamp(self) -> str:
        """What changes whenever an evaluation comes, goes or is written again."""
        return json.dumps([(name, *_state(path)) for name, path in self.files().items()])

    def first_and_last(self) -> tuple[str, str] | None:
        """The names of the run's own two, else of any two; None while there are not two."""
        names = list(self.files())
        own = [name for name in names if _STEP.fullmatch(name)]
        names = own if len(own) > 1 else names
        return (names[0], names[-1]) if len(names) > 1 else None

    def compare(self, base: object, trained: object) -> Comparison:
        """Compare two by their names.

        Raises DataError for a name that is not, or no longer, among them, for a file that is no evaluation,
        and if the two are not over the same questions.
        """
        return load(self._file(base), self._file(trained))

    def _file(self, name: object) -> Path:
        files = self.files()
        if not isinstance(name, str) or name not in files:
            raise DataError(
                f"the evaluation {title(str(name))} is gone, or is being written; choose among: "
                f"{', '.join(map(title, files)) or 'none'}"
            )
        return files[name]

    def pair(self, base: object, trained: object) -> tuple[object, object]:
        """What a page has chosen; the first and the last where it has chosen nothing yet."""
        first, last = self.first_and_last() or (None, None)
        return base or first, trained or last

    def so_far(self, trained: Evaluation) -> str:
        """Says so where training has gone on since; empty otherwise."""
        assert self.run is not None
        try:
            metrics = read_metrics(self.run)
        except DataError:  # the Training tab says what is wrong with them
            return ""
        last = metrics[-1]["step"] if metrics else 0
        if last <= trained["step"] or not trained["step"]:
            return ""
        return f"The last evaluation so far: training is at step {last:,}."

    def missing(self) -> str:
        """Why there are not two to compare, and what to do; empty if there are two."""
        if self.run is None:
            return "Start the app with --run RUN_DIR to see what training changed in that run's evaluations."
        count = len(self.files())
        if count > 1:
            return ""
        so_far = "no evaluation" if not count else "one evaluation so far"
        return (
            f"The run {self.run.name} has {so_far} in its eval folder, and two are compared here. "
            "Those of a run that goes on appear by themselves; gpg-vl eval --out adds one; --run names "
            "another run."
        )


def title(name: str) -> str:
    """An evaluation by its file's name: `step_000600` is step 600."""
    found = _STEP.fullmatch(name)
    return f"step {int(found[1]):,}" if found else name


def _is_whole(path: Path) -> bool:
    """Whether a file ends as a JSON object does: half of one is being copied."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16))
            return file.read().rstrip().endswith(b"}")
    except OSError:  # gone since it was listed
        return False


def _is_evaluation(path: Path) -> bool:
    try:
        _read(path, *_state(path))
    except DataError:
        return False
    return True


def _state(path: Path) -> tuple[int, int]:
    """Nanosecond of change and bytes; zeros for a file that has gone."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def load(base: Path, trained: Path) -> Comparison:
    """Read and compare two files.

    Raises DataError for a file that is no evaluation, and if they are not over the same questions.
    """
    return _load(base, trained, _state(base), _state(trained))


@lru_cache(maxsize=4)
def _load(base: Path, trained: Path, *states: tuple[int, int]) -> Comparison:
    """Kept until a file changes: a filter or a click needs both again."""
    before, after = (_read(path, *state) for path, state in zip((base, trained), states, strict=True))
    result = compare(before, after)
    return Comparison(before, after, paired_items(before, after), result)


@lru_cache(maxsize=4)
def _read(path: Path, *_: int) -> Evaluation:
    return read_evaluation(path)


@dataclass(frozen=True)
class Selection:
    """Which list of questions was looked at, and which of them was opened: what the page remembers."""

    base: str = ""
    trained: str = ""
    outcome: str = ALL
    task: str = ALL
    text: str = ""
    id: str = ""

    def to_json(self) -> str:
        """For a hidden field of the page."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: object) -> "Selection":
        """What a page sends back; whatever is no text there counts as not chosen."""
        try:
            sent = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            sent = None
        sent = sent if isinstance(sent, dict) else {}
        names = [field.name for field in fields(cls)]
        return cls(**{name: sent[name] for name in names if isinstance(sent.get(name), str)})

    def listed(self, comparison: Comparison) -> list[Pair]:
        """The questions of the list, in their order."""
        return select(comparison.pairs, kind=self.outcome, task=self.task, text=self.text)


def select(pairs: Sequence[Pair], *, kind: str = ALL, task: str = ALL, text: str = "") -> list[Pair]:
    """The pairs of an outcome and a task whose question, choices, answers or id hold `text` in any case."""
    wanted = text.strip().casefold()
    return [
        pair
        for pair in pairs
        if kind in (ALL, outcome(*pair)) and task in (ALL, pair[1]["task"]) and wanted in _searched(pair)
    ]


def _searched(pair: Pair) -> str:
    trained = pair[1]
    question = (trained["id"], trained["question"], *trained["choices"], trained["gold"])
    outputs = (answer["output"] for item in pair for answer in answers_of(item))
    return "\n".join((*question, *outputs)).casefold()


def stored_pair(pairs: Sequence[Pair], id: str) -> Pair:
    """The question of an id with both stored answers.

    Raises DataError if it is not among them.
    """
    for pair in pairs:
        if pair[1]["id"] == id:
            return pair
    raise DataError("this question is not in the two evaluations any more: reload the page")


def headline(found: Comparison) -> list[tuple[str, str]]:
    """The paired test over all questions in four figures, each with what it is."""
    total = found.result["total"]
    difference, p = total["difference"], total["mcnemar_p"]
    low, high = (f"{100 * difference[end]:+.1f}" for end in ("low", "high"))
    told = ", not for graded scores" if p is None else ": how often chance alone would do as much"
    return [
        (f"{100 * total['before']:.1f} → {100 * total['after']:.1f} %", found.measured),
        (f"{100 * difference['mean']:+.1f} points", f"paired difference, 95 % interval {low} to {high}"),
        (f"{len(total['fixed'])} / {len(total['broken'])}", "questions fixed / broken"),
        ("–" if p is None else f"{p:.2g}", f"p of McNemar's test{told}"),
    ]
