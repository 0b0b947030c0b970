"""Rows given in Python: mappings with the values that tables, arrays and images have there."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from datasets import Dataset, IterableDataset
from PIL import Image

from gpg_vl.data.images import image_file
from gpg_vl.errors import DataError

_IMAGES = ("image", "images")


def given_rows(source: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows as a Parquet file would give them; images may stay PIL's.

    Raises DataError for what is no row, or no rows.
    """
    if isinstance(source, Mapping):
        raise DataError(
            f"rows are a list of mappings, got one mapping with the keys {', '.join(map(str, source))}; "
            "of a data set of several splits give one, such as data['train']"
        )
    for number, row in enumerate(_undecoded(source), start=1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"row {number} is no mapping such as {{'question': …, 'answer': …}}, but {row!r:.80}; a "
                "table of pandas gives its rows by .to_dict('records')"
            )
        yield {str(name): plain(value) for name, value in row.items()}


def _undecoded(source: Iterable[Any]) -> Iterable[Any]:
    """A table of `datasets` with its image files as they are: decoded, JPEGs would be stored anew as PNG."""
    if isinstance(source, Dataset) and source.format["type"] is None:
        source = source.to_iterable_dataset()
    if isinstance(source, IterableDataset) and source.features is not None:
        source = source.decode(False)
    return source


def plain(value: Any) -> Any:
    """A value as JSON has it, bytes and images aside: arrays are lists, dates and paths texts, NaN null."""
    if isinstance(value, Image.Image):
        return _own_image(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float | date) and value != value:  # pandas' NaN and NaT
        return None
    if isinstance(value, date | time | Decimal | PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy, torch or pandas
        return plain(value.tolist())
    return bytes(value) if isinstance(value, bytearray) else value


def _own_image(image: Image.Image) -> bytes | Image.Image:
    """Its file while it has one, else a copy: rows are converted in threads, and may share an image."""
    return image_file(image) or image.copy()
