"""Tables for the terminal, in Markdown, and numbers in few words."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells padded to columns; a bar or a line break within a cell is taken out of the table's way."""
    lines = [header, *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    rule = "|".join("-" * (width + 2) for width in widths)
    head, *body = [f"| {line} |" for line in padded]
    return "\n".join([head, f"|{rule}|", *body])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def short_number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def time_words(seconds: float) -> str:
    """Seconds in the units that one would say them in: 45 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def short_text(text: str, most: int) -> str:
    """A text in quotes, its first `most` characters, and how many there are if those are not all."""
    if len(text) <= most:
        return repr(text)
    return f"{text[:most] + '…'!r} ({len(text)} characters)"
