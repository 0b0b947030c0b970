"""The look of the tabs that show a run's records."""

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
.gpg.picture { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .8rem; }
.gpg.picture img { display: block; width: 100%; max-width: 38rem; height: auto; margin: 0 auto; }
.gpg.picture img.in-dark { display: none; }
.dark .gpg.picture img.in-light { display: none; }
.dark .gpg.picture img.in-dark { display: block; }
.gpg.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.gpg.scroll table { border-collapse: collapse; width: 100%; font-size: .82rem; margin: 0; border: 0;
  font-variant-numeric: tabular-nums; }
.gpg.scroll th, .gpg.scroll td { padding: .55rem .5rem; text-align: right; white-space: nowrap; border: 0; }
.gpg.scroll thead th { color: var(--muted); font-weight: 500; }
.gpg.scroll th:first-child { text-align: left; }
.gpg.scroll tbody th { font-weight: 500; }
.gpg.scroll table tbody tr { border: 0; border-top: 1px solid var(--line); }
.gpg.scroll table thead tr { border: 0; }
.gpg.scroll tbody tr:last-child { background: var(--soft); }
.gpg.scroll tbody tr:last-child > * { font-weight: 600; }
.gpg.scroll + .gpg.hint { margin-top: .7rem; }
.beside { align-self: center; }
.items { --font-mono: var(--font); }
.items [role="gridcell"] { cursor: pointer; }
.gpg.note + .gpg.card { margin-top: .75rem; }
.panels { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
"""
