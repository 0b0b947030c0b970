"""A comparison as one HTML file that the browser writes itself: the server keeps no copy of it.

The file holds what the page shows: cards and picture are our own markup already, and everything that somebody
typed or a model wrote is put in as text. It runs no script and loads nothing.
"""

import json
from collections.abc import Mapping, Sequence
from string import Template

from gpg_vl import __version__
from gpg_vl.report.style import DARK_COLORS, PAGE, STYLE
from gpg_vl.theme import DARK

from .styles import CSS, series

_STYLE = f"""
@media (prefers-color-scheme: dark) {{ .gpg {{ {DARK_COLORS} {series(DARK)} }} }}
.saved {{ display: grid; gap: 1rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); align-items: start; }}
.saved img {{ max-width: 100%; height: auto; border-radius: 8px; background: #fff; display: block; }}
[data-slot=how] {{ margin-bottom: 1rem; }}
.saved p {{ white-space: pre-line; overflow-wrap: anywhere; }}
[data-slot]:empty, :is(p, details):has(> [data-slot]:empty) {{ display: none; }}
"""
_BODY = Template("""
<p class="kicker">Comparison of two models, <span data-slot="date"></span></p>
<h1 data-slot="question"></h1>
<div class="saved"><div data-slot="pictures"></div><div>
<p data-slot="choices"></p><p><b>Gold answer:</b> <span data-slot="gold"></span></p></div></div>
<div class="saved">$cards</div>
<div data-slot="how" data-markup></div>
$prompts
""")
_PROMPT = '<details class="box"><summary>{}</summary><pre data-slot="prompt-{}"></pre></details>'


def comparison_page(titles: Mapping[str, str]) -> str:
    """The page with empty slots; titles: of the models' prompts by `base` and `trained`."""
    cards = "".join(f'<div data-slot="card-{kind}" data-markup></div>' for kind in titles)
    prompts = "".join(_PROMPT.format(f"Prompt sent to {name.lower()}", kind) for kind, name in titles.items())
    return PAGE.substitute(
        title="gpg-vl comparison",
        style=STYLE + CSS + _STYLE,
        body=_BODY.substitute(cards=cards, prompts=prompts),
        version=__version__,
    )


def saving_script(page: str, names: Sequence[str]) -> str:
    """The script of an event whose inputs are `names`: those of slots, `image`, `further` and `boxes`."""
    return f"(...values) => gpg.save({json.dumps(page)}, {json.dumps(list(names))}, values)"


SAVING = """<script>
window.gpg = Object.assign(window.gpg || {}, (() => {
  const longest = 1024; // pixels of a saved image
  const small = async address => {
    const image = await createImageBitmap(await (await fetch(address)).blob());
    const scale = Math.min(1, longest / Math.max(image.width, image.height));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height].map(side => Math.max(1, side * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.9);
  };
  // Slots of markup, and the picture, take what our server wrote; a parsed document runs no script of it.
  const pictures = async (slot, {image, further, boxes}) => {
    slot.innerHTML = boxes || "";
    slot.querySelector(".back")?.remove();
    if (boxes) return;
    const files = further?.length ? further.map(one => one.image) : image ? [image] : [];
    for (const file of files) {
      const shown = slot.ownerDocument.createElement("img");
      shown.alt = "Image of the question";
      shown.src = await small(file.url);
      slot.append(shown);
    }
  };
  const download = text => {
    const address = URL.createObjectURL(new Blob([text], {type: "text/html"}));
    Object.assign(document.createElement("a"), {href: address, download: "comparison.html"}).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };
  return {
    async save(page, names, values) {
      const saved = new DOMParser().parseFromString(page, "text/html");
      const slot = name => saved.querySelector(`[data-slot="${name}"]`);
      const shown = Object.fromEntries(names.map((name, place) => [name, values[place]]));
      await pictures(slot("pictures"), shown);
      slot("date").textContent = new Date().toLocaleString("en-GB", {dateStyle: "long", timeStyle: "short"});
      for (const [name, value] of Object.entries(shown)) {
        const place = slot(name);
        if (place) place["markup" in place.dataset ? "innerHTML" : "textContent"] = value ?? "";
      }
      download(`<!doctype html>\\n${saved.documentElement.outerHTML}\\n`);
    },
  };
})());
</script>"""
