"""Writes prepared data sets: any number of rows in bounded memory, in parallel, whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from PIL import Image

from gpg_vl.data.manifest import MANIFEST
from gpg_vl.data.prepared import SKIPPED
from gpg_vl.data.rows import Row, make_row
from gpg_vl.data.shards import ShardWriter
from gpg_vl.errors import DataError, RowError, UserError
from gpg_vl.registry import Draft
from gpg_vl.runtime.files import sealed, writing
from gpg_vl.types import Sample

_WORKERS = min(8, os.cpu_count() or 1)

Item = TypeVar("Item")
Result = TypeVar("Result")


def write_prepared(
    drafts: Iterable[Draft],
    out: Path,
    *,
    source: str,
    converter: str,
    version: str,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    strict: bool = False,
    unreadable_gold: Callable[[Sample], str] = lambda sample: "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write samples as a prepared data set; returns its manifest.

    Rows that cannot be used are skipped, counted by reason in the manifest and listed in `skipped.jsonl`;
    `strict` fails on the first. `unreadable_gold` says why no reward can read a row's gold answer, "" if one
    can: such rows are written, and counted by reason. `limit` counts written rows. `progress` gets the rows
    written and skipped so far. Images are decoded in threads; a few dozen rows are in memory at a time.
    Writes into a temporary folder beside `out` and renames it, so an interrupted run leaves nothing behind.
    Raises DataError if `out` exists or no row is left.
    """
    with _whole_folder(out) as folder:
        make = partial(_made, unreadable_gold=unreadable_gold)
        ledger = _convert(drafts, make, folder, limit, strict, progress)
        ledger.require_rows(f"{converter}: no rows in {source!r}")
        manifest = {
            "source": source,
            "converter": converter,
            "version": version,
            "options": dict(options or {}),
            "rows": ledger.written,
            "tasks": dict(sorted(ledger.tasks.items())),
            "skipped": dict(sorted(ledger.skipped.items())),
            "unreadable_gold": dict(sorted(ledger.unreadable.items())),
            "sha256": ledger.digest.hexdigest(),
        }
        text = json.dumps(sealed(manifest), indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _convert(
    drafts: Iterable[Draft],
    make: Callable[[Draft], Row | RowError],
    folder: Path,
    limit: int | None,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> "_Ledger":
    with ExitStack() as stack:
        # In all threads: `open_image` refuses what Pillow warns of.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        log = (folder / SKIPPED).open("w", encoding="utf-8", errors="backslashreplace")
        shards = stack.enter_context(ShardWriter(folder))
        ledger = _Ledger(shards, stack.enter_context(log))
        rows = stack.enter_context(closing(in_order(make, drafts, workers=_WORKERS)))
        for number, row in enumerate(rows):
            ledger.take(number, row, strict=strict)
            if progress is not None:
                progress(ledger.written, ledger.skipped.total())
            if ledger.written == limit:
                break
    return ledger


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, window: int | None = None
) -> Generator[Result, None, None]:
    """Map in threads; results come in order, and at most `window` items (4 a worker) are under way.

    A UserError of `items` comes after the results of the items before it: who stops earlier never sees it.
    """
    pending: deque[Future[Result]] = deque()
    failure: UserError | None = None
    pool = ThreadPoolExecutor(workers)
    try:
        source = iter(items)
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except UserError as error:
                failure = error
                break
            pending.append(pool.submit(function, item))
            if len(pending) == (window or 4 * workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _made(draft: Draft, unreadable_gold: Callable[[Sample], str]) -> Row | RowError:
    try:
        sample = draft if isinstance(draft, Sample) else draft()
        return replace(make_row(sample), unreadable_gold=unreadable_gold(sample))
    except RowError as error:
        return error


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, renamed to it at the end; removed if anything fails."""
    if out.exists():
        raise DataError(f"{str(out)!r} exists already; remove it or choose another --out")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            yield folder
            folder.chmod(0o755)  # mkdtemp's 0o700 would hide the data set from other users
            os.rename(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Ledger:
    """What was written and what was skipped, by reason."""

    def __init__(self, shards: ShardWriter, log: TextIO) -> None:
        self.tasks: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.digest = hashlib.sha256()
        self._shards, self._log = shards, log
        self._ids: set[str] = set()
        self._first = ""

    @property
    def written(self) -> int:
        return len(self._ids)

    def take(self, number: int, row: Row | RowError, *, strict: bool) -> None:
        """Write row `number` of the source, or note why it is skipped."""
        if isinstance(row, Row) and row.columns["id"] in self._ids:
            row = RowError("duplicate id", f"another row has the id {row.columns['id']!r} already")
        if isinstance(row, Row):
            self._write(row)
        elif strict:
            raise row
        else:
            self._skip(number, row)

    def _write(self, row: Row) -> None:
        self._ids.add(row.columns["id"])
        self.tasks[row.columns["task"]] += 1
        self.unreadable.update([row.unreadable_gold] if row.unreadable_gold else [])
        for part in row.content():
            self.digest.update(part)
        self._shards.add(row)

    def _skip(self, number: int, error: RowError) -> None:
        self.skipped[error.reason] += 1
        self._first = self._first or str(error)
        line = {"row": number, "reason": error.reason, "message": str(error)}
        self._log.write(json.dumps(line, ensure_ascii=False) + "\n")

    def require_rows(self, source: str) -> None:
        """Raise DataError if nothing was written."""
        if self.skipped and not self.written:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            raise DataError(f"{source} can be used: {counts}; the first: {self._first}")
        if not self.written:
            raise DataError(source)
