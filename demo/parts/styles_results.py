"""Style sheet of what `results.py` returns: Overview, and the questions of Benchmark."""

_CHANGE = """
.gpg.results { display: flex; flex-direction: column; gap: 1rem; font-variant-numeric: tabular-nums; }
.gpg.results h2 { font-size: .98rem; font-weight: 600; margin: 0; color: var(--ink); }
.gpg.results p { margin: 0; }
.gpg.results small, .gpg.results .hint { color: var(--muted); font-size: .84rem; overflow-wrap: anywhere; }
.gpg.results .pair { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.gpg.results .result { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.3rem; display: flex; flex-direction: column; gap: .55rem; min-width: 0; }
.gpg.results .figure { font-size: clamp(2rem, 7vw, 3.1rem); line-height: 1.1; font-weight: 300;
  color: var(--muted); letter-spacing: -.02em; }
.gpg.results .figure b { font-weight: 650; color: var(--trained); }
.gpg.results .measured { font-size: 1rem; overflow-wrap: anywhere; }
.gpg.results .models { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .86rem; }
.gpg.results .mark { display: inline-block; width: .62rem; height: .62rem; border-radius: 2px;
  margin-right: .4rem; }
.gpg.results .mark.base, .gpg.results .bar.base { background: var(--base); }
.gpg.results .mark.trained, .gpg.results .bar.trained { background: var(--trained); }
.gpg.results .mark.gold { background: var(--gold); }
.gpg.results .change { font-weight: 600; border-radius: 8px; padding: .5rem .8rem;
  background: var(--soft); }
.gpg.results .change.up { background: var(--good-soft); color: var(--good); }
.gpg.results .change.down { background: var(--bad-soft); color: var(--bad); }
.gpg.results .tally { display: flex; height: .6rem; gap: 2px; border-radius: 3px; overflow: hidden;
  margin-top: auto; }
.gpg.results .tally span { background: var(--line); min-width: 2px; }
.gpg.results .tally .right { background: var(--good); }
.gpg.results .tally .wrong { background: var(--bad); }
.gpg.results .bars { display: flex; flex-direction: column; gap: .7rem; }
.gpg.results .task { display: grid; grid-template-columns: 1fr 4.2rem; gap: .2rem .7rem;
  align-items: center; }
.gpg.results .task .name { grid-column: 1 / -1; font-size: .86rem; overflow-wrap: anywhere; }
.gpg.results .track { position: relative; height: .8rem; background: var(--soft); border-radius: 3px; }
.gpg.results .bar { position: absolute; inset: 0 auto 0 0; border-radius: 3px; }
.gpg.results .interval { position: absolute; top: .2rem; height: .4rem; border: solid var(--ink);
  border-width: 0 1.5px;
  background: linear-gradient(var(--ink), var(--ink)) center / 100% 1.5px no-repeat; }
.gpg.results .value { text-align: right; font-size: .84rem; color: var(--muted); }
.gpg.results .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
"""

_QUESTIONS = """
.gpg.results button { font: inherit; color: inherit; text-align: left; cursor: pointer; margin: 0; }
.gpg.results button:hover { border-color: var(--accent); }
.gpg.results img { margin: 0; border-radius: 8px; border: 1px solid var(--line); background: #fff; }
.gpg.results .asks, .gpg.results .says, .gpg.results .cell { overflow: hidden; overflow-wrap: anywhere;
  min-width: 0; unicode-bidi: isolate; line-height: 1.4;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; }
.gpg.results .examples { display: grid; gap: 1rem; align-items: stretch;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.gpg.results .example { display: flex; gap: .9rem; align-items: flex-start; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; padding: .9rem; min-width: 0; width: 100%; }
.gpg.results .example img { width: 6.5rem; height: auto; max-height: 9rem; object-fit: contain;
  flex: none; }
.gpg.results .example .blank { display: none; }
.gpg.results .example-body { display: flex; flex-direction: column; gap: .45rem; flex: 1;
  min-width: 0; }
.gpg.results .example-head { display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: center; }
.gpg.results .asks { font-size: .93rem; }
.gpg.results .answers { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem;
  font-size: .88rem; }
.gpg.results .who { color: var(--muted); white-space: nowrap; }
.gpg.results .says { font-weight: 600; }
.gpg.results .ok { color: var(--good); }
.gpg.results .no { color: var(--bad); }
.gpg.results .rows { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column;
  gap: .4rem; }
.gpg.results .rows li { margin: 0; padding: 0; }
.gpg.results .row { display: grid; width: 100%; align-items: center; gap: .3rem .9rem;
  grid-template-columns: 3.5rem 8rem minmax(0, 3fr) repeat(3, minmax(0, 1fr)); font-size: .88rem;
  padding: .45rem .7rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.gpg.results .row.head { background: none; border-color: transparent; padding-block: 0; }
.gpg.results .row.head span { color: var(--muted); font-size: .8rem; }
.gpg.results .row img { width: 3.5rem; height: 3.5rem; object-fit: cover; }
.gpg.results .row .kind { display: flex; flex-direction: column; gap: .2rem; align-items: flex-start;
  min-width: 0; }
.gpg.results .row .cell { font-weight: 500; }
.gpg.results .pager { display: flex; justify-content: center; align-items: center; gap: 1rem;
  color: var(--muted); font-size: .88rem; }
.gpg.results .pager button { border: 1px solid var(--line); background: var(--card);
  border-radius: 8px; padding: .35rem .9rem; color: var(--ink); }
.gpg.results .pager button:disabled { opacity: .45; cursor: default; border-color: var(--line); }
"""

_PHONE = """
@media (max-width: 48rem) {
  .gpg.results .row { grid-template-columns: 4.5rem minmax(0, 1fr); align-items: start; }
  .gpg.results .row.head, .gpg.results .row .blank { display: none; }
  .gpg.results .row img { width: 4.5rem; height: 4.5rem; grid-row: span 2; }
  .gpg.results .row .blank ~ *, .gpg.results .row .cell { grid-column: 1 / -1; }
  .gpg.results .row .kind { flex-direction: row; flex-wrap: wrap; gap: .3rem .6rem; }
  .gpg.results .row .cell { display: flex; gap: .9rem; align-items: baseline; }
  .gpg.results .row .cell .unseen { position: static; width: 4.5rem; height: auto; clip-path: none;
    flex: none; }
}
"""

RESULTS_CSS = _CHANGE + _QUESTIONS + _PHONE
