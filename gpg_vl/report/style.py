"""The report's page and style sheet: one file, no scripts, nothing from the network."""

from string import Template

from gpg_vl.report.drawing import COLORS

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
<footer>Written by gpg-vl $version</footer>
</body>
</html>
""")

LIGHT_COLORS = """
  --page: #f5f6f8; --card: #ffffff; --ink: #1a1f26; --muted: #57606a; --line: #d8dee4;
  --soft: #f0f2f5; --accent: #0b62a8;
  --good: #0f5f2a; --good-soft: #dcf5e3; --bad: #9b1c2c; --bad-soft: #fde8e8;
  --warn: #6f4a00; --warn-soft: #fff3d6;
"""
DARK_COLORS = """
  --page: #0f1318; --card: #171c23; --ink: #e6eaef; --muted: #9aa4b0; --line: #2d343e;
  --soft: #1f262f; --accent: #6cb6ff;
  --good: #7ee7a0; --good-soft: #12301c; --bad: #ffa8a1; --bad-soft: #3c1a1c;
  --warn: #f2cc75; --warn-soft: #33280f;
"""


def _stroke(color: str, *, dashed: bool) -> str:
    """A line as `draw_boxes` draws it."""
    return f"repeating-linear-gradient(90deg, {color} 0 .4rem, #fff .4rem .65rem)" if dashed else color


STYLE = (
    f"""
:root {{{LIGHT_COLORS}}}
@media (prefers-color-scheme: dark) {{ :root {{{DARK_COLORS}}} }}
"""
    + """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 1rem; }
footer { max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; color: var(--muted);
  font-size: .85rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; }
p { margin: .5rem 0; max-width: 46rem; }
code, pre { font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.kicker { color: var(--muted); font-size: .85rem; margin: 0 0 .25rem; }
.lead { font-size: 1.08rem; }
.hint { color: var(--muted); font-size: .88rem; }
.note { background: var(--warn-soft); color: var(--warn); border-radius: 8px;
  padding: .6rem .9rem; max-width: none; }
.box { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }

.tiles { display: grid; gap: .75rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tile { padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.65rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: .85rem; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .9rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: .88rem; }
th[scope=row], thead tr:first-child th:first-child { text-align: left; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
tbody tr { border-top: 1px solid var(--line); }
tbody tr.total { background: var(--soft); }
tbody tr.total td { font-weight: 600; }
td small { display: block; color: var(--muted); font-size: .78rem; font-weight: 400; }
.first { border-left: 1px solid var(--line); }
thead th.group { text-align: left; padding-bottom: 0; color: var(--ink); font-weight: 600; }
.up { color: var(--good); } .down { color: var(--bad); }

figure { margin: 1rem 0; padding: 1rem; }
figure img { display: block; width: 100%; height: auto; }
figure img { min-width: 34rem; }
figure.wide img { min-width: 46rem; }
figcaption { color: var(--muted); font-size: .85rem; padding: .25rem .25rem 0; }

.tally { display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; padding: 0;
  margin: .75rem 0 1rem; }
.tally li { padding: .2rem .75rem; border-radius: 99px; font-size: .88rem;
  background: var(--card); border: 1px solid var(--line); }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.card { padding: 1rem; display: flex; flex-direction: column; gap: .75rem; min-width: 0; }
.card header { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center;
  font-size: .82rem; color: var(--muted); }
.card header span:last-child { overflow-wrap: anywhere; }
.ask { display: flex; flex-wrap: wrap; gap: 1rem; }
.ask .images { flex: 0 1 11rem; display: grid; gap: .5rem; align-content: start; }
.ask img { width: 100%; border-radius: 8px; border: 1px solid var(--line); display: block;
  background: #fff; }
.ask .images.drawn { flex-basis: 22rem; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .9rem; list-style: none; margin: 0; padding: 0;
  font-size: .82rem; color: var(--muted); }
.legend i { display: inline-block; width: 1.7rem; height: .38rem; margin-right: .4rem;
  vertical-align: middle; outline: 1px solid #fff; }
"""
    + "".join(
        f".legend .{name} {{ background: {_stroke(color, dashed=name != 'gold')}; }}\n"
        for name, color in COLORS.items()
    )
    + """
.ask .text { flex: 1 1 12rem; min-width: 0; overflow-wrap: anywhere; }
.ask p { margin: 0 0 .4rem; white-space: pre-line; }
.choices { list-style: none; margin: 0; padding: 0; font-size: .92rem; }
.choices li { padding: .1rem .5rem; border-radius: 6px; }
.choices li.gold { background: var(--good-soft); color: var(--good); font-weight: 600; }
.answer { border-top: 1px solid var(--line); padding-top: .6rem; }
.answer h3 { margin: 0 0 .35rem; font-size: .88rem; display: flex; flex-wrap: wrap; gap: .5rem;
  align-items: center; }
.answer h3 small { color: var(--muted); font-weight: 400; }
.answer pre, details pre { margin: 0; padding: .6rem .75rem; border-radius: 8px;
  background: var(--soft); white-space: pre-wrap; overflow-wrap: anywhere; }
.answer pre { max-height: 13rem; overflow-y: auto; unicode-bidi: isolate; }
.gpg-tag { color: var(--accent); }
.badge { border-radius: 99px; padding: .1rem .6rem; font-size: .8rem; font-weight: 600;
  background: var(--soft); color: var(--ink); white-space: nowrap; }
.badge.right { background: var(--good-soft); color: var(--good); }
.badge.wrong { background: var(--bad-soft); color: var(--bad); }

details { padding: .75rem 1rem; margin-bottom: .75rem; }
summary { cursor: pointer; font-weight: 600; }
details pre { margin-top: .75rem; overflow-x: auto; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding: .5rem .6rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .ask .images { flex-basis: 100%; max-width: 18rem; }
}
"""
)
