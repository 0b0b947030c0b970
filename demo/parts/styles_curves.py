"""Style of what a run left: its curves, and what a reward makes of a step."""

from gpg_vl.theme import DARK, LIGHT, Theme


def _runs(theme: Theme) -> str:
    """The first run is blue, the other vermilion, in the figures' tones."""
    return f"--run-0: {theme.series[0]}; --run-1: {theme.series[4]};"


CURVE_CSS = (
    f".gpg {{ {_runs(LIGHT)} }} .dark .gpg {{ {_runs(DARK)} }}"
    """
.block:has(> .html-container > .prose:empty) { display: none; }
.gpg .run-0 { color: var(--run-0); }
.gpg .run-1 { color: var(--run-1); }
.gpg.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; align-items: center; }
.gpg.legend span { display: inline-flex; align-items: center; gap: .45rem; overflow-wrap: anywhere; }
.gpg .swatch { width: 1.1rem; height: .25rem; border-radius: 2px; background: currentColor; }
.gpg .ring { width: .6rem; height: .6rem; border-radius: 50%; border: 2px solid currentColor; }
.gpg.curves { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.gpg.curves figure { margin: 0; padding: .8rem .9rem .5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; min-width: 0; contain: content;
  display: flex; flex-direction: column; justify-content: space-between; }
.gpg.curves figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .2rem .8rem;
  font-size: .84rem; margin-bottom: .4rem; color: var(--ink); }
.gpg.curves b { font-weight: 600; overflow-wrap: anywhere; }
.gpg.curves .last { display: flex; gap: .7rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.gpg.curves svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
.gpg.curves text { fill: var(--muted); font-size: 10.5px; font-variant-numeric: tabular-nums; }
.gpg.curves path { fill: none; stroke: currentColor; stroke-linecap: round; stroke-linejoin: round; }
.gpg.curves .rules { stroke: var(--line); stroke-width: 1; }
.gpg.curves .raw { stroke-width: 1; opacity: .32; }
.gpg.curves .line { stroke-width: 2; }
.gpg.curves circle { fill: var(--card); stroke: currentColor; stroke-width: 2; }
.gpg.histogram { margin: .75rem 0; padding: .8rem 1.1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; }
.gpg.histogram figcaption { color: var(--muted); font-size: .85rem; margin-bottom: .5rem; }
.gpg.histogram ol { display: flex; gap: .5rem; align-items: stretch; height: 7.5rem; margin: 0; padding: 0;
  list-style: none; }
.gpg.histogram li { flex: 1 1 0; max-width: 5rem; min-width: 0; margin: 0; display: flex; text-align: center;
  flex-direction: column; justify-content: flex-end; font-size: .78rem; font-variant-numeric: tabular-nums; }
.gpg.histogram b { font-weight: 600; color: var(--ink); }
.gpg.histogram i { display: block; flex: 0 1 auto; min-height: 2px; border-radius: 3px 3px 0 0;
  background: var(--run-0); }
.gpg.histogram span { color: var(--muted); border-top: 1px solid var(--line); padding-top: .15rem; }
.gpg.curve-tip { position: fixed; left: 0; top: 0; z-index: 1000; pointer-events: none; white-space: pre;
  background: var(--card); color: var(--ink); border: 1px solid var(--line); border-radius: 8px;
  padding: .35rem .6rem; font: .8rem system-ui, sans-serif; box-shadow: 0 2px 8px rgb(0 0 0 / .15); }
"""
)
