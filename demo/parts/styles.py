"""Theme and style sheet of the app: quiet, system fonts, light and dark."""

import gradio as gr

from gpg_vl.theme import DARK, LIGHT

from .style_cards import CARD_CSS
from .style_records import RECORD_CSS

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
.gpg.card th { text-align: left; color: var(--muted); font-weight: 500; border-top: 0 !important; }
.gpg.card td:first-child, .gpg.card td:last-child { font-variant-numeric: tabular-nums; white-space: nowrap; }
.gpg.card td summary { color: var(--ink); }
.gpg .katex { white-space: nowrap; }
.gpg .katex-display { overflow-x: auto; overflow-y: hidden; margin: .4rem 0; }
.prompt textarea { font-family: ui-monospace, monospace; font-size: .84rem; }
:focus-visible { outline: 2px solid #0b62a8 !important; outline-offset: 2px; }
.dark :focus-visible { outline-color: #6cb6ff !important; }
@media (max-width: 40rem) {
  .tab-container button { padding: 0 .3rem; font-size: .85rem; }
}
"""

HEAD = """<style>
.gradio-container > .main { max-width: 80rem !important; margin: 0 auto; }
@media (max-width: 40rem) { .gradio-container > .main { padding: .8rem .75rem !important; } }
</style>"""
"""The page's frame, which Gradio's `css` does not reach: it holds for what is inside."""

CSS = CARD_CSS + RECORD_CSS + APP_CSS
