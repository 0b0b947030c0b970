"""The commands that make data sets and look into them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from gpg_vl.checks import expand, seed_in_range, share_in_range
from gpg_vl.cli.before import at_least, check_new
from gpg_vl.cli.difficulty import difficulty
from gpg_vl.cli.dispatch import Command, dispatch
from gpg_vl.data.manifest import check_prepared
from gpg_vl.errors import ConfigurationError
from gpg_vl.model.adapter_files import check_fetched, check_local
from gpg_vl.options import base_parser

if TYPE_CHECKING:
    from gpg_vl.data.split import Split

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.


def prepare(arguments: list[str]) -> None:
    """Convert a data set into the prepared layout."""
    from gpg_vl.registry import converters

    names = ", ".join(sorted(converters.announced()))
    parser = _prepare_parser(names)
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
        raise ConfigurationError(f"name the converter first: gpg-vl prepare NAME; one of: {names}")
    converter = converters.get(arguments[0])
    options = parser.add_function_arguments(converter.function, skip={"source"})
    given = parser.parse_args(arguments)
    at_least(1, given.limit, "--limit")
    if converter.endless and given.limit is None:
        raise ConfigurationError(f"{converter.name!r} never ends by itself: say how many rows with --limit")
    check_new(given.out, "--out")
    if given.validation is not None:
        _check_validation(given.validation, given.out)
    if "seed" in options:
        seed_in_range(given.seed, "--seed")
    from gpg_vl.data.ingest import write_prepared
    from gpg_vl.data.split import write_split
    from gpg_vl.runtime.progress import RowBar
    from gpg_vl.runtime.shutdown import terminated_like_interrupted
    from gpg_vl.scoring.gold import unreadable_gold

    chosen = {name: given[name] for name in options}
    out = Path(given.out)
    with terminated_like_interrupted(), RowBar("prepare", given.limit) as bar:
        drafts = converter.function(given.source, **chosen)
        settings: dict[str, Any] = {
            "source": given.source,
            "converter": converter.name,
            "version": converter.version,
            "options": chosen,
            "limit": given.limit,
            "strict": given.strict,
            "unreadable_gold": unreadable_gold,
            "progress": bar.advance,
        }
        split = (
            write_split(drafts, out, given.validation, **settings) if given.validation is not None else None
        )
        manifest = split.whole if split else write_prepared(drafts, out, **settings)
    if split:
        _print_split(split, out, given.validation)
    else:
        _print_rows(manifest, out)
    _print_doubtful(manifest, out)


def _prepare_parser(names: str) -> ArgumentParser:
    """What every converter has; `names` are those announced."""
    parser = base_parser("gpg-vl prepare", prepare.__doc__ or "")
    parser.add_argument("dataset", help=f"a converter: {names}, file.py:name or module:name")
    parser.add_argument("--out", required=True, type=expand, help="folder to write; must not exist")
    parser.add_argument("--source", default="", type=expand, help="folder, file or hub id of the original")
    parser.add_argument(
        "--limit", type=int, help="rows to write at most; required where the source is endless"
    )
    parser.add_argument(
        "--validation",
        type=float,
        help="share of the rows, between 0 and 1, for a second folder, OUT_validation, which shares no image "
        "and no question with OUT; default: none",
    )
    parser.add_argument("--strict", action="store_true", help="fail on the first row that cannot be used")
    return parser


def _check_validation(share: float, out: str) -> None:
    share_in_range(share, "--validation")
    check_new(f"{out.rstrip('/')}_validation", "--out")


def _print_rows(manifest: Mapping[str, Any], out: Path) -> None:
    print(f"{out}: {manifest['rows']} rows")
    for task, count in manifest["tasks"].items():
        print(f"  {task}: {count}")


def _print_split(split: "Split", out: Path, share: float) -> None:
    from gpg_vl.data.split import validation_folder

    _print_rows(split.train, out)
    _print_rows(split.validation, validation_folder(out))
    got = split.validation["rows"] / split.whole["rows"]
    what = "image and no question" if split.questions_apart else "image"
    print(f"  {got:.1%} for validation, asked for {share:.1%}: it shares no {what} with {out}")
    if not split.questions_apart:
        print("  questions are on both sides: too many rows ask the same to be parted by them")


def _print_doubtful(manifest: Mapping[str, Any], out: Path) -> None:
    from gpg_vl.data.prepared import SKIPPED

    skipped, unreadable = manifest["skipped"], manifest["unreadable_gold"]

    if skipped:
        print(f"skipped {sum(skipped.values())} rows, listed in {out / SKIPPED}:")
    for reason, count in skipped.items():
        print(f"  {reason}: {count}")
    if unreadable:
        print(
            f"written, though the reward of their type reads their gold answer not or in part: "
            f"{sum(unreadable.values())} rows"
        )
    for reason, count in unreadable.items():
        print(f"  {reason}: {count}")


def overlap(arguments: list[str]) -> None:
    """Count the images and questions that two prepared data sets share."""
    parser = base_parser("gpg-vl data overlap", overlap.__doc__ or "")
    parser.add_argument("first", type=expand, help="folder written by `gpg-vl prepare`")
    parser.add_argument("second", type=expand, help="another one")
    parser.add_argument("--examples", type=int, default=5, help="pairs of ids to print for each kind")
    given = parser.parse_args(arguments)
    at_least(0, given.examples, "--examples")
    check_prepared(given.first)
    check_prepared(given.second)
    from gpg_vl.data.overlap import find_overlap, overlap_report

    print(overlap_report(find_overlap([given.first], [given.second]), given.examples))


def show(arguments: list[str]) -> None:
    """Describe a prepared data set: tasks, answers, sizes, prompt lengths, and a sheet of samples."""
    parser = base_parser("gpg-vl data show", show.__doc__ or "")
    parser.add_argument("folder", type=expand, help="folder written by `gpg-vl prepare`")
    parser.add_argument(
        "--processor", type=expand, help="model folder or hub id; its processor counts the prompts' tokens"
    )
    parser.add_argument("--out", type=expand, help="PNG file for the sheet of samples; default: no sheet")
    parser.add_argument("--samples", type=int, default=12, help="samples on the sheet")
    given = parser.parse_args(arguments)
    at_least(1, given.samples, "--samples")
    check_prepared(given.folder)
    if given.processor is not None:
        check_local(given.processor)
        check_fetched(given.processor)
    from gpg_vl.data.contact_sheet import draw_sheet
    from gpg_vl.data.prepared import PreparedDataset
    from gpg_vl.data.show import describe

    rows = PreparedDataset.open([given.folder])
    print(describe(rows, given.processor))
    if given.out:
        print(f"samples: {draw_sheet(rows, Path(given.out), given.samples)}")


COMMANDS: dict[str, Command] = {"show": show, "overlap": overlap, "difficulty": difficulty}


def data(arguments: list[str]) -> None:
    """Look into prepared data sets: what one holds, what two share, how hard it is for a model."""
    dispatch("gpg-vl data", COMMANDS, arguments)
