"""Style sheet of `picture.py`, for the app and for pages that are saved from it."""

from gpg_vl.report.drawing import COLORS

_COLORS = {**COLORS, "base": "#68727e"}
"""Base darker still: its label is white on it."""
_DASHES = {"base": "stroke-dashoffset: 0;", "trained": "stroke-dashoffset: -5;"}
"""Of ten on and ten off: where both models' boxes coincide, each has a part of every dash to itself, and a
gold box below shows through."""

PICTURE_CSS = (
    """
.gpg.boxed { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.boxed .stage { position: relative; margin: 0 auto; width: min(100%, calc(24rem * var(--ratio)));
  aspect-ratio: var(--ratio); }
.gpg.boxed img { display: block; width: 100%; min-width: 0; height: 100%; margin: 0;
  border-radius: 4px; background: #fff; }
.boxed svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.boxed rect { fill: none; vector-effect: non-scaling-stroke; pointer-events: stroke; }
.boxed .case { stroke: #fff; stroke-width: 5; }
.boxed .line { stroke-width: 3; }
.boxed .pale .case { stroke-width: 2.5; opacity: .55; }
.boxed .pale .line { stroke-width: 1.25; opacity: .75; }
.boxed .iou { position: absolute; transform: translate(-100%, calc(-100% - 4px)); padding: 0 .35rem;
  border-radius: 4px; font-size: .78rem; line-height: 1.35; font-weight: 600; color: #fff;
  font-variant-numeric: tabular-nums; pointer-events: none; }
.boxed .iou.inner { transform: translate(calc(-100% - 4px), 4px); }
.boxed .iou.base { transform: translate(0, 4px); }
.boxed .iou.base.inner { transform: translate(4px, calc(-100% - 4px)); }
.boxed figcaption { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: .6rem; padding: 0;
  font-size: .86rem; color: var(--ink); }
.boxed label { display: inline-flex; align-items: center; gap: .4rem; cursor: pointer; }
.boxed label.back { color: var(--muted); margin-left: auto; }
.boxed input { margin: 0; width: 1rem; height: 1rem; accent-color: var(--accent); }
.boxed i { width: 1.4rem; height: .3rem; border-radius: 1px; }
.share { align-items: center; }
.share .copy-link { flex-grow: 0; }
.imagery:has(.boxed .plain:not(:checked)) #image { display: none; }
.imagery .boxed:has(.plain:checked) .stage { display: none; }
"""
    + "".join(
        f".boxed g.{name} .line {{ stroke: {color}; }}\n"
        f".boxed i.{name}, .boxed .iou.{name} {{ background: {color}; }}\n"
        f".boxed:has(input.{name}:not(:checked)) .stage .{name} {{ display: none; }}\n"
        for name, color in _COLORS.items()
    )
    + "".join(
        f".boxed g.{name} rect {{ stroke-dasharray: 10 10; {offset} }}\n"
        f".boxed i.{name} {{ mask: repeating-linear-gradient(90deg, #000 0 .4rem, #0000 .4rem .5rem); }}\n"
        for name, offset in _DASHES.items()
    )
)
