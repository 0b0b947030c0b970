"""Small data sets in published layouts, and converters run on them as `gpg-vl prepare` does."""

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List
from PIL import Image as PILImage

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import RowError
from gpg_vl.registry import Draft
from gpg_vl.types import Sample


def png(width: int = 8, height: int = 6, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def cell(**look: Any) -> dict[str, Any]:
    """An image as Parquet files of the hub hold it; their paths are often all the same."""
    return {"bytes": png(**look), "path": "image.png"}


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]], **types: Any) -> Path:
    """Parquet as `push_to_hub` writes it; `types` are those that the rows do not show."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = Dataset.from_list([dict(row) for row in rows])
    images = {"image": Image(), "images": List(Image())}
    known = {name: images[name] for name in images if name in table.features}
    table.cast(Features(table.features | known | types)).to_parquet(file)
    return file


def prepared(drafts: Iterable[Draft], folder: Path) -> list[Sample]:
    """What is in a prepared folder once the drafts are written to it."""
    opened: list[Sample] = []
    write_prepared(
        (partial(_recorded, draft, opened) for draft in drafts),
        folder,
        source="here",
        converter="under test",
        version="1",
    )
    for sample in opened:
        _close(sample)
    rows = PreparedDataset.open([str(folder)])
    return [rows[index] for index in range(len(rows))]


def _recorded(draft: Draft, opened: list[Sample]) -> Sample:
    opened.append(draft() if callable(draft) else draft)
    return opened[-1]


def sample_of(draft: Draft) -> Sample:
    """The draft's sample, its image files closed."""
    sample = draft() if callable(draft) else draft
    _close(sample)
    return sample


def _close(sample: Sample) -> None:
    for image in sample.images:
        image.close()


def reasons(drafts: Iterable[Draft]) -> list[str | None]:
    """Why each draft is no sample; None where it is one."""
    return [_reason(draft) for draft in drafts]


def _reason(draft: Draft) -> str | None:
    try:
        sample_of(draft)
    except RowError as error:
        return error.reason
    return None
