"""Colours of figures, pages and sheets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours; the series are Okabe and Ito's, which colour-blind readers can tell apart."""

    background: str
    ink: str
    muted: str
    grid: str
    base: str
    series: tuple[str, ...]


LIGHT = Theme(
    background="#ffffff",
    ink="#1a1f26",
    muted="#57606a",
    grid="#e3e7ec",
    base="#a3abb5",
    series=("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"),
)
DARK = Theme(
    background="#171c23",
    ink="#e6eaef",
    muted="#9aa4b0",
    grid="#2d343e",
    base="#6d7682",
    series=("#56b4e9", "#e69f00", "#2bc295", "#cc79a7", "#f0803c", "#4c8fd6"),
)
