"""Scripts of the page, few and small: each listens on the document, for Gradio draws parts anew."""

_TAB_KEYS = """
document.addEventListener("keydown", event => {
  const tab = event.target.closest && event.target.closest("[role=tab]");
  if (!tab || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const list = tab.closest("[role=tablist]") || tab.parentElement;
  const tabs = [...list.querySelectorAll("[role=tab]:not(:disabled)")].filter(one => one.offsetParent);
  const place = tabs.indexOf(tab), last = tabs.length - 1;
  const chosen = {
    ArrowLeft: place > 0 ? place - 1 : last,
    ArrowRight: place < last ? place + 1 : 0,
    Home: 0,
    End: last,
  }[event.key];
  if (place < 0 || chosen === undefined) return;
  event.preventDefault();
  tabs[chosen].focus();
  tabs[chosen].click();
});
"""
"""Arrow keys, Home and End between tabs, which Gradio leaves out: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/"""

_CURVE_VALUES = """
(() => {
  const read = new WeakMap();
  const points = path => {
    if (!read.has(path))
      read.set(path, path.getAttribute("d").slice(1).split(" ").map(pair => pair.split(",").map(Number)));
    return read.get(path);
  };
  const digits = (value, share) => share ? (100 * value).toFixed(1) + "\u00a0%"
    : Math.abs(value) < 1000 ? String(Number(value.toPrecision(3))) : Math.round(value).toLocaleString("en");
  const number = (value, share) => digits(value, share).replace(/^-/, "−");
  let tip = null;
  const hide = () => { if (tip) tip.hidden = true; };
  const lines = (svg, x) => {
    const [first, last, low, high] = svg.dataset.frame.split(" ").map(Number);
    const share = svg.dataset.share === "1";
    return [...svg.querySelectorAll("path.line")].map(path => {
      const near = points(path).reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      const step = Math.round(first + (near[0] - LEFT) / (RIGHT - LEFT) * (last - first));
      const value = low + (BOTTOM - near[1]) / (BOTTOM - TOP) * (high - low);
      return `${path.dataset.run}, step ${step.toLocaleString("en")}: ${number(value, share)}`;
    });
  };
  document.addEventListener("pointermove", event => {
    const svg = event.target.closest && event.target.closest(".curves svg");
    if (!svg) return hide();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const told = event.target.dataset.told ? [event.target.dataset.told] : lines(svg, at.x);
    if (!told.length) return hide();
    if (!tip) {
      tip = document.createElement("div");
      tip.className = "gpg curve-tip";
      tip.setAttribute("aria-hidden", "true");
      document.body.append(tip);
    }
    tip.textContent = told.join("\\n");
    tip.hidden = false;
    const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.translate = `${Math.max(8, right)}px ${event.clientY + 18}px`;
  });
  document.addEventListener("scroll", hide, true);
})();
"""
"""The values under the pointer, read from the lines as they are drawn."""


def scripts(frame: tuple[float, float, float, float]) -> str:
    """For the page's head. frame: left, right, top and bottom of the curves' plots."""
    names = ", ".join(f"{name} = {end:g}" for name, end in zip(_ENDS, frame, strict=True))
    return f"<script>(() => {{ const {names};{_CURVE_VALUES}{_TAB_KEYS} }})();</script>"


_ENDS = ("LEFT", "RIGHT", "TOP", "BOTTOM")
