"""Theme and style sheet of the app: quiet, system fonts, light and dark."""

import gradio as gr

from gpg_vl.report.style import DARK_COLORS, LIGHT_COLORS
from gpg_vl.theme import DARK, LIGHT, Theme

from .styles_curves import CURVE_CSS
from .styles_live import LIVE_CSS
from .styles_picture import PICTURE_CSS
from .styles_results import RESULTS_CSS

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
FONT_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
"""Fonts that are on the machine already: the page fetches nothing from elsewhere."""

_RAISED = "#222933"
"""What one types into, on dark cards."""


def theme() -> gr.themes.Base:
    """Neutral surfaces; the accent is the colour of the trained model in every figure."""
    built = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_lg,
        font=list(FONT),
        font_mono=list(FONT_MONO),
    )
    return built.set(
        body_background_fill="#f5f6f8",
        body_background_fill_dark="#0f1318",
        block_background_fill=LIGHT.background,
        block_background_fill_dark=DARK.background,
        block_border_color="#d8dee4",
        block_border_color_dark=DARK.grid,
        block_label_text_color=LIGHT.muted,
        block_label_text_color_dark=DARK.muted,
        input_background_fill_dark=_RAISED,
        checkbox_label_background_fill_dark=_RAISED,
        checkbox_background_color_dark=DARK.background,
        block_label_background_fill_dark=DARK.background,
        button_secondary_background_fill_dark=DARK.grid,
        button_secondary_background_fill_hover_dark="#3a434f",
        table_even_background_fill_dark=DARK.background,
        table_odd_background_fill_dark="#1c222a",
        table_border_color_dark=DARK.grid,
        button_primary_background_fill=LIGHT.series[0],
        button_primary_background_fill_hover="#005f96",
        button_primary_background_fill_dark="#1f6fb0",
        button_primary_background_fill_hover_dark="#2a7fc4",
        button_primary_text_color="#ffffff",
    )


def series(theme: Theme) -> str:
    """The models' colours, those of the figures."""
    return f"--base: {theme.base}; --trained: {theme.series[0]}; --gold: {theme.series[2]};"


CARD_CSS = (
    f".gpg {{ {LIGHT_COLORS} {series(LIGHT)} }} .dark .gpg {{ {DARK_COLORS} {series(DARK)} }}"
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
.gpg .gpg-text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 1.55; }
.gpg .gpg-tag { color: var(--accent); font-family: ui-monospace, monospace; font-size: .88em; }
.gpg details { padding: 0; margin: 0; border: 0; }
.gpg summary { cursor: pointer; color: var(--muted); font-size: .88rem; font-weight: 500; }
.gpg details .gpg-text { margin-top: .5rem; padding-left: .8rem; border-left: 2px solid var(--line);
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
"""Cards, badges and messages: what `markup.py` returns."""

RECORD_CSS = """
.html-container:has(> .prose > .gpg) { padding: 0; }
.gpg.hint { color: var(--muted); font-size: .88rem; margin: 0; }
.gpg.tiles { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)); }
.gpg.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .8rem 1.1rem; }
.gpg.tiles b { display: block; font-size: 1.45rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; color: var(--ink); }
.gpg.tiles span { color: var(--muted); font-size: .85rem; }
.gpg.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.gpg.scroll table { border-collapse: collapse; width: 100%; font-size: .82rem; margin: 0; border: 0;
  font-variant-numeric: tabular-nums; }
.gpg.scroll th, .gpg.scroll td { padding: .55rem .4rem; text-align: right; white-space: nowrap; border: 0; }
.gpg.scroll thead th { color: var(--muted); font-weight: 500; }
.gpg.scroll th:first-child { text-align: left; }
.gpg.scroll tbody th { font-weight: 500; }
.gpg.scroll table tbody tr { border: 0; border-top: 1px solid var(--line); }
.gpg.scroll table thead tr { border: 0; }
.gpg.scroll tr.total { background: var(--soft); }
.gpg.scroll tr.total > * { font-weight: 600; }
.gpg.scroll + .gpg.scroll { margin-top: .75rem; }
.gpg.scroll + .gpg.hint { margin-top: .7rem; }
.beside { align-self: center; }
.gpg.note + .gpg.card { margin-top: .75rem; }
"""
"""The tabs that show a run's records."""

APP_CSS = """
#title h1 { font-size: 1.35rem; font-weight: 650; margin: .4rem 0 0; }
#title p { margin: .15rem 0 .3rem; opacity: .75; overflow-wrap: anywhere; }
.picker { align-items: end; }
.picker .steps { flex-wrap: nowrap; gap: .4rem; align-self: end; }
.picker .steps button { min-width: 0; padding-left: .5rem; padding-right: .5rem; font-weight: 500; }
input[role="combobox"] { text-overflow: ellipsis; padding-right: 1.6rem; }
#image img { width: 100%; height: 100%; object-fit: contain; }
footer > .divider { display: none; }
.panes { margin-top: .4rem; }
.panes .html-container { padding: 0 !important; }
.gpg .hint { color: var(--muted); font-size: .9rem; margin: 0; }
.gpg.card table, .gpg.card tbody, .gpg.card tr { border: 0 !important; }
.gpg.card table { width: 100%; border-collapse: collapse; font-size: .9rem; margin: 0; }
.gpg.card th, .gpg.card td { padding: .3rem .5rem !important; border: 0 !important; vertical-align: top;
  border-top: 1px solid var(--line) !important; overflow-wrap: anywhere; }
.gpg.card th { text-align: left; color: var(--muted); font-weight: 500; border-top: 0 !important;
  overflow-wrap: normal; }
.gpg.card td:first-child, .gpg.card td:last-child { font-variant-numeric: tabular-nums; white-space: nowrap; }
.gpg.card td summary { color: var(--ink); }
.gpg .katex { white-space: nowrap; }
.gpg .katex-display { overflow-x: auto; overflow-y: hidden; margin: .4rem 0; }
.prompt textarea { font-family: ui-monospace, monospace; font-size: .84rem; }
:focus-visible { outline: 2px solid #0b62a8 !important; outline-offset: 2px; }
.dark :focus-visible { outline-color: #6cb6ff !important; }
@media (max-width: 40rem) {
  .gpg.card th, .gpg.card td { padding-inline: .2rem !important; }
  .tab-container button { padding: 0 .2rem; font-size: .8rem; }
}
"""

HEAD = """<style>
.gradio-container > .main { max-width: 80rem !important; margin: 0 auto; }
@media (max-width: 40rem) { .gradio-container > .main { padding: .8rem .75rem !important; } }
</style>"""
"""The page's frame, which Gradio's `css` does not reach: it holds for what is inside."""

CSS = CARD_CSS + RECORD_CSS + APP_CSS + PICTURE_CSS + RESULTS_CSS + CURVE_CSS + LIVE_CSS
