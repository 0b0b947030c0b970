"""CV-Bench (Tong et al. 2024): counting, relation, depth and distance in real images."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from gpg_vl.data.images import image_bytes, open_image
from gpg_vl.errors import ConfigurationError, unknown
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Sample

from ._cells import numbered_rows, text_cell, texts_cell

LAYOUT = "a folder with test_2d.parquet and test_3d.parquet, or one of the two files"
COLUMNS = ("idx", "type", "task", "image", "question", "choices", "answer", "source", "filename")
_TYPES = {"test": ("2D", "3D"), "test_2d": ("2D",), "test_3d": ("3D",)}
_KEPT = ("source", "source_dataset", "type", "filename", "target_class", "target_size", "bbox")


@converter("cv_bench", version="1")
def cv_bench(source: str, *, split: str = "test") -> Iterator[Draft]:
    """Convert CV-Bench: 2,638 questions in the tasks Count, Relation, Depth and Distance.

    Args:
        source: nyu-visionx/CV-Bench, or a folder with test_2d.parquet and test_3d.parquet.
        split: test (all), test_2d (Count and Relation) or test_3d (Depth and Distance).

    Choices keep their published order. `meta.source` is what the official score averages over; the questions
    about one source image share `meta.cluster`. Source: Cambrian-1, arXiv 2406.16860.
    """
    if split not in _TYPES:
        raise ConfigurationError(unknown("split of cv_bench", split, _TYPES))
    for number, row in numbered_rows(source, LAYOUT, COLUMNS, splits=("test",)):
        if row["type"] in _TYPES[split]:
            yield partial(_sample, row, f"row {number}")


def _sample(row: dict[str, Any], where: str) -> Sample:
    meta = {column: row[column] for column in _KEPT if row.get(column) is not None}
    origin = row.get("source_filename") or row["filename"]
    return Sample(
        id=f"cv_bench-{row['idx']}",
        task=f"cv_bench/{text_cell(row, 'task', where)}",
        question=text_cell(row, "question", where),
        choices=tuple(texts_cell(row, "choices", where)),
        answer=text_cell(row, "answer", where),
        answer_type="choice",
        images=(open_image(image_bytes(row["image"], where), where),),
        meta={**meta, "cluster": f"{row.get('source_dataset') or row['source']}: {origin}"},
    )
