"""The look of cards, badges and messages: what `markup.py` returns."""

from gpg_vl.report.style import DARK_COLORS, LIGHT_COLORS
from gpg_vl.theme import DARK, LIGHT, Theme


def _series(theme: Theme) -> str:
    """The models' colours, those of the figures."""
    return f"--base: {theme.base}; --trained: {theme.series[0]}; --gold: {theme.series[2]};"


CARD_CSS = (
    f".gpg {{ {LIGHT_COLORS} {_series(LIGHT)} }} .dark .gpg {{ {DARK_COLORS} {_series(DARK)} }}"
    """
.gpg { color: var(--ink); }
.gpg.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1rem 1.15rem; margin: 0; display: flex; flex-direction: column; gap: .7rem; min-width: 0; }
.gpg.base { border-left: 4px solid var(--base); }
.gpg.trained { border-left: 4px solid var(--trained); }
.gpg.gold { border-left: 4px solid var(--gold); }
.gpg header { display: flex; flex-wrap: wrap; gap: .45rem .6rem; align-items: center; color: var(--muted);
  font-size: .86rem; overflow-wrap: anywhere; }
.gpg header h3 { margin: 0; font-size: .98rem; font-weight: 600; color: var(--ink); }
.gpg header small { color: var(--muted); font-size: .84rem; font-variant-numeric: tabular-nums; }
.gpg .badge { border-radius: 99px; padding: .08rem .6rem; font-size: .8rem; font-weight: 600;
  background: var(--soft); color: var(--ink); white-space: nowrap; }
.gpg .badge.right { background: var(--good-soft); color: var(--good); }
.gpg .badge.wrong { background: var(--bad-soft); color: var(--bad); }
.gpg .final { font-size: 1.12rem; font-weight: 600; padding: .5rem .8rem; border-radius: 8px;
  background: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.gpg .final.none { color: var(--muted); font-weight: 400; font-size: .95rem; font-style: italic; }
.gpg .text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 1.55; }
.gpg .tag { color: var(--accent); font-family: ui-monospace, monospace; font-size: .88em; }
.gpg details { padding: 0; margin: 0; border: 0; }
.gpg summary { cursor: pointer; color: var(--muted); font-size: .88rem; font-weight: 500; }
.gpg details .text { margin-top: .5rem; padding-left: .8rem; border-left: 2px solid var(--line);
  color: var(--muted); max-height: 24rem; overflow-y: auto; }
.gpg .ask { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
.gpg .ask .images { flex: 0 1 14rem; display: grid; gap: .5rem; }
.gpg .ask img { width: 100%; margin: 0; border-radius: 8px; border: 1px solid var(--line);
  background: #fff; }
.gpg .asked { flex: 1 1 14rem; min-width: 0; display: flex; flex-direction: column; gap: .7rem; }
.gpg.grid { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.gpg .choices { list-style: none; margin: 0; padding: 0; }
.gpg .choices li { margin: 0; padding: .15rem .55rem; border-radius: 6px; overflow-wrap: anywhere; }
.gpg .choices li.gold { border: 0; background: var(--good-soft); color: var(--good); font-weight: 600; }
.gpg .rewards { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 0; font-size: .86rem; }
.gpg .rewards dt { color: var(--muted); }
.gpg .rewards dd { margin: 0 0 0 -.75rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.gpg.note { background: var(--warn-soft); color: var(--warn); border-radius: 8px; padding: .7rem 1rem;
  margin: 0; white-space: pre-line; overflow-wrap: anywhere; }
.gpg :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
)
