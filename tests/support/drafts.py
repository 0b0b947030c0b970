"""What a converter yields: written and read back, or refused."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import RowError
from gpg_vl.registry import Draft
from gpg_vl.types import Sample


def written(drafts: Iterable[Draft], folder: Path) -> list[Sample]:
    """The samples as a prepared data set gives them back."""
    write_prepared(drafts, folder, source="", converter="test", version="1")
    rows = PreparedDataset.open([str(folder)])
    return [rows[index] for index in range(len(rows))]


def refused(draft: Draft) -> str:
    """Why one draft makes no row: reason, colon, message."""
    assert callable(draft)
    with pytest.raises(RowError) as caught:
        draft()
    return f"{caught.value.reason}: {caught.value}"
