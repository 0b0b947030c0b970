"""What a prepared data set holds, in figures: tasks, answers, image sizes, prompt lengths."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.tables import markdown_table
from gpg_vl.types import Sample

_NAMED_ANSWERS = 6
"""More different answers than this are counted, not listed."""


def describe(data: PreparedDataset, processor: str | None = None) -> str:
    """The data set as text; with a `processor` (model folder or hub id) also its prompts' lengths.

    Raises DataError for an image without a readable header, ModelError if there is no such model
    with a processor.
    """
    length = _length_under(processor) if processor is not None else lambda sample: 0
    rows = [_figures(data.peek(index), length) for index in range(len(data))]
    lines = [*_origin(data), "", _tasks(rows), "", *_images(rows)]
    if reasoned := sum(map(bool, data.column("reasoning"))):
        lines.append(f"reasoning: {reasoned:,} of {len(data):,} rows")
    if processor is not None:
        lengths = _spread((row.tokens for row in rows), p95=True)
        lines.append(f"prompt:   {lengths} tokens, images included")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Figures:
    """What is counted of a row: all samples at once would hold the bytes of every image."""

    task: str
    answer: str
    answer_type: str
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image."""
    tokens: int


def _figures(sample: Sample, length: Callable[[Sample], int]) -> _Figures:
    sizes = tuple(image.size for image in sample.images)
    return _Figures(sample.task, sample.answer, sample.answer_type, sizes, length(sample))


def _length_under(path: str) -> Callable[[Sample], int]:
    """Tokens of a prompt as the model at `path` would get it: a checkpoint's own prompt, or the default."""
    # Heavy imports: a look at the data needs none of them
    from gpg_vl.config import ModelConfig
    from gpg_vl.model.families import family_of
    from gpg_vl.model.loading import read_config, read_processor
    from gpg_vl.prompting.card import read_card
    from gpg_vl.prompting.encode import PromptEncoder

    family = family_of(path, read_config(path))
    processor = read_processor(path, family)
    card, limits = read_card(path) or {}, ModelConfig()
    encoder = PromptEncoder(
        processor,
        Prompt.from_dict(card.get("prompt", {})),
        family=family,
        min_pixels=card.get("min_pixels", limits.min_pixels),
        max_pixels=card.get("max_pixels", limits.max_pixels),
    )
    return encoder.prompt_length


def _origin(data: PreparedDataset) -> list[str]:
    lines = []
    for folder in data.folders:
        manifest = read_manifest(Path(folder))
        made = f"{manifest['converter']} {manifest['version']} from {manifest['source'] or 'nothing'}"
        lines.append(f"{folder}: {manifest['rows']:,} rows, made by {made}")
        skipped = [f"{count:,} {reason}" for reason, count in manifest.get("skipped", {}).items()]
        lines += [f"  skipped: {', '.join(skipped)}"] if skipped else []
    return lines


def _tasks(samples: Sequence[_Figures]) -> str:
    """A Markdown table of tasks with their answers."""
    by_task: dict[str, list[_Figures]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    rows = [
        (task, f"{len(group):,}", _types(group), _answers(group)) for task, group in sorted(by_task.items())
    ]
    return markdown_table(("task", "rows", "answer type", "answers"), rows)


def _types(samples: Sequence[_Figures]) -> str:
    return ", ".join(sorted({sample.answer_type for sample in samples}))


def _answers(samples: Sequence[_Figures]) -> str:
    """Their balance: shares of the few there are, or how many there are and the commonest."""
    if all(sample.answer_type == "boxes" for sample in samples):
        return f"{_spread([len(read_boxes(sample.answer)) for sample in samples])} boxes"
    counts = Counter(sample.answer for sample in samples)
    if len(counts) <= _NAMED_ANSWERS:
        return ", ".join(f"{answer} {count / len(samples):.1%}" for answer, count in sorted(counts.items()))
    answer, count = counts.most_common(1)[0]
    return f"{len(counts):,} different; commonest {answer} {count / len(samples):.1%}"


def _images(rows: Sequence[_Figures]) -> list[str]:
    sizes = [size for row in rows for size in row.sizes]
    lines = [f"images:   {_spread(len(row.sizes) for row in rows)} a row"]
    if sizes:
        lines.append(f"width:    {_spread(width for width, _ in sizes)} pixels")
        lines.append(f"height:   {_spread(height for _, height in sizes)} pixels")
    return lines


def _spread(values: Iterable[int], *, p95: bool = False) -> str:
    numbers = np.fromiter(values, dtype=np.int64)
    if numbers.min() == numbers.max():
        return f"{numbers.min():,}"
    parts = {"min": numbers.min(), "median": np.median(numbers)}
    if p95:
        parts["p95"] = np.percentile(numbers, 95)
    parts["max"] = numbers.max()
    return ", ".join(f"{name} {value:,.0f}" for name, value in parts.items())
