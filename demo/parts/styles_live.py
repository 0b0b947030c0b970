"""Style of what changes while models work, and of answers that are stored or stale."""

LIVE_CSS = """
.stop-asking { display: none !important; }
[role="tabpanel"]:has(.panes .badge.working) .stop-asking { display: flex !important; }
.again { display: none !important; }
[role="tabpanel"]:has(.panes .badge.stored) .again { display: flex !important; }
.strip { align-items: center; gap: .5rem; flex-wrap: wrap; }
.strip > button { flex: 0 0 auto; width: auto; min-width: 0; white-space: nowrap; font-weight: 500; }
.strip > .where { flex: 1 1 6rem; min-width: 0; width: auto; border: 0; background: none; padding: 0 .4rem; }
.strip .hint { font-variant-numeric: tabular-nums; }
.gpg .badge.working { background: none; box-shadow: inset 0 0 0 1px var(--line); color: var(--accent); }
.gpg .badge.working::before { content: ""; display: inline-block; width: .5em; height: .5em;
  border-radius: 50%; background: currentColor; margin-right: .45em;
  animation: gpg-working 1.2s ease-in-out infinite; }
@keyframes gpg-working { 50% { opacity: .25; } }
@media (prefers-reduced-motion: reduce) { .gpg .badge.working::before { animation: none; } }
.gpg .badge.stored { background: none; box-shadow: inset 0 0 0 1px var(--line); color: var(--muted); }
.gpg.away { position: fixed; inset: auto 1rem 1rem; margin: auto; width: fit-content; z-index: 1000;
  padding: .6rem 1rem; border-radius: 8px; background: var(--ink); color: var(--card); }
.stale-line:not(:has(.stale)) { display: none !important; }
[role="tabpanel"]:has(.stale) .panes .gpg.card > :not(header) { opacity: .5; }
[role="tabpanel"]:has(.stale) .panes .gpg.card .badge { filter: grayscale(1); opacity: .6; }
"""
"""What a pane's state changes around it: Stop while a model works, Ask again beside stored answers, old
answers in grey."""
