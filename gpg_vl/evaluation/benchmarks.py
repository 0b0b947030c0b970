"""Each benchmark's protocol as data: prompt, grading, answer length and the figures that are reported."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpg_vl.data.manifest import MANIFEST, read_manifest
from gpg_vl.errors import DataError, UnknownNameError, unknown
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.scoring.gold import GRADERS
from gpg_vl.types import AnswerType

FOLDER = Path("data")
"""Where a benchmark that is given by its name alone has its prepared set."""
SAMPLED = {"temperature": 0.6, "top_p": 0.95}
"""How several answers a question are drawn; the math benchmarks' protocol (DeepSeek-R1, arXiv 2501.12948)."""


@dataclass(frozen=True)
class Measure:
    """A reward whose mean is reported."""

    reward: str
    options: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_GRADERS: Mapping[AnswerType, Measure] = {kind: Measure(name) for kind, name in GRADERS.items()}


@dataclass(frozen=True)
class Benchmark:
    """How a data set is asked, graded and reported."""

    name: str
    converter: str = ""
    """The converter whose prepared sets follow this protocol."""
    marks: frozenset[str] = frozenset()
    """Tasks, option values or sources, in small letters and digits, that tell one converter's sets apart."""
    prepare: str = ""
    """What follows `gpg-vl prepare` to make the data."""
    prompt: Prompt = field(default_factory=Prompt)
    """For models that bring none."""
    graders: Mapping[AnswerType, Measure] = field(default_factory=dict)
    """What makes an answer right, where it is not as in DEFAULT_GRADERS."""
    accuracy: str = "accuracy"
    """What the share of right answers is called."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Further scores by the name of their mean; questions that one cannot grade are left out of it."""
    whole_output: bool = False
    """Whether an answer without tags is looked for in all that follows the reasoning."""
    lenient: bool = False
    """Whether accuracy is also reported with answers outside the tags; see `grading.LENIENT`."""
    max_new_tokens: int = 1024
    source_weights: Mapping[str, float] = field(default_factory=dict)
    """The official score: Σ weight · accuracy by the question's `source`; empty where there is none."""

    def grader(self, answer_type: AnswerType) -> Measure:
        """What makes an answer of this type right."""
        return self.graders.get(answer_type, DEFAULT_GRADERS[answer_type])


_BOX: Mapping[AnswerType, Measure] = {"boxes": Measure("iou", {"threshold": 0.5})}

PREPARED = Benchmark("prepared")
"""For prepared sets of no known benchmark."""


def _math(name: str, source: str, marks: Iterable[str] = (), max_new_tokens: int = 32_768) -> Benchmark:
    return Benchmark(
        name,
        converter="math",
        marks=frozenset(marks),
        prepare=f"math --source {source} --out {FOLDER / name}",
        prompt=Prompt("boxed"),
        accuracy="pass@1",
        max_new_tokens=max_new_tokens,
    )


def _plain(name: str, options: str, **protocol: Any) -> Benchmark:
    settings = {"converter": name, "prepare": f"{name} {options} --out {FOLDER / name}", **protocol}
    return Benchmark(name, **settings)


_ALL = (
    # Sources of the protocols: arXiv 2504.02546 and the benchmarks' own papers. The paper gives no answer
    # length for RefCOCO and classification; 1024 is ours.
    _plain(
        "cv_bench",
        "--source nyu-visionx/CV-Bench",
        whole_output=True,
        source_weights={"ADE20K": 0.25, "COCO": 0.25, "Omni3D": 0.5},  # arXiv 2406.16860, section 3.2
    ),
    _plain("geoqa", "--source geoqa_test_prompts.jsonl", lenient=True),
    _plain(
        "refcoco",
        "--source lmms-lab/RefCOCO --split val",
        graders=_BOX,
        accuracy="Acc@0.5",
        measures={"mean_iou": Measure("iou")},
    ),
    _plain(
        "lisa",
        "--source ReasonSeg --split test --texts first",
        graders=_BOX,
        accuracy="Acc@0.5",
        measures={"mean_iou": Measure("iou"), "giou": Measure("mask_iou")},
        max_new_tokens=128,
    ),
    Benchmark(
        "classification",
        converter="virft",
        marks=frozenset({"classification"}),
        prepare=f"virft --source HUB_ID_OR_FOLDER --out {FOLDER / 'classification'}",
    ),
    _plain("nlvr", "--source nlvr/dev --split test"),
    _plain("scenes", "--split test --limit 1000"),
    _math("math500", "HuggingFaceH4/MATH-500", {"math500"}),
    _math("aime24", "HuggingFaceH4/aime_2024", {"aime24", "aime2024"}),
    _math("amc23", "math-ai/amc23", {"amc23"}),
    _math("minerva", "math-ai/minervamath", {"minerva", "minervamath"}),
    _math(
        "olympiadbench",
        "Hothan/OlympiadBench --config OE_TO_maths_en_COMP --name olympiadbench",
        {"olympiadbench"},
    ),
    _math("math", "FILE.jsonl", max_new_tokens=2048),  # any other set; as long as the paper trains with
)
BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
TITLES = {"mean_iou": "mIoU", "giou": "gIoU", "lenient": "lenient accuracy"}
"""What figures are called in tables, where it is not their name."""


def find_benchmark(reference: str, data: str | None) -> tuple[Benchmark, str]:
    """The protocol and the prepared folder that the command line means.

    reference: a benchmark's name, or a prepared folder, whose manifest then picks the protocol. data: the
    prepared folder of a benchmark given by name; None looks into `data/NAME`. Raises UnknownNameError for
    another name, DataError where the folder is missing, saying how to make it.
    """
    if data is None and (Path(reference) / MANIFEST).is_file():
        return protocol_of([reference]), reference
    if reference not in BENCHMARKS:
        message = unknown("benchmark", reference, BENCHMARKS)
        raise UnknownNameError(f"{message} Or name a folder written by `gpg-vl prepare`")
    benchmark = BENCHMARKS[reference]
    folder = Path(data) if data is not None else FOLDER / reference
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{str(folder)!r} is not a prepared data set; make it: gpg-vl prepare {benchmark.prepare}, "
            "or name another folder with --data"
        )
    return benchmark, str(folder)


def protocol_of(folders: Sequence[str]) -> Benchmark:
    """The protocol of prepared folders by their manifests; PREPARED where none or several fit."""
    found = {_protocol(read_manifest(Path(folder))).name for folder in folders}
    return BENCHMARKS.get(found.pop(), PREPARED) if len(found) == 1 else PREPARED


def _protocol(manifest: Mapping[str, Any]) -> Benchmark:
    own = [benchmark for benchmark in _ALL if benchmark.converter == manifest.get("converter")]
    words = set(_words(manifest))
    marked = [benchmark for benchmark in own if benchmark.marks & words]
    return next(iter([*marked, *(benchmark for benchmark in own if not benchmark.marks), PREPARED]))


def _words(manifest: Mapping[str, Any]) -> Iterable[str]:
    """Parts of the tasks' names, option values, and the source's last part, in small letters and digits."""
    texts = [part for task in manifest.get("tasks", {}) for part in task.split("/")]
    texts += [value for value in manifest.get("options", {}).values() if isinstance(value, str)]
    texts.append(Path(manifest.get("source", "")).stem)
    return (re.sub("[^a-z0-9]", "", text.casefold()) for text in texts)
