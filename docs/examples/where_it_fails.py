"""What the quickstart's wrong answers have in common, from an evaluation of its held-out scenes.

python docs/examples/where_it_fails.py runs/quickstart/gpg/eval/step_000600.json
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from gpg_vl.data_prep.scenes import scenes
from gpg_vl.tables import markdown_table

HUES = {"red": 0, "green": 102, "blue": 157, "yellow": 33, "purple": 193}  # of 256
VIVID = 90  # of 255: the saturation of objects, and not of walls and floors
Item: TypeAlias = dict[str, Any]
Scenes: TypeAlias = dict[str, Image.Image]


def where(image: Image.Image, colour: str) -> np.ndarray:
    """Pixels of a colour, (n, 2): row and column."""
    hue, saturation, _ = np.moveaxis(np.asarray(image.convert("HSV"), dtype=int), -1, 0)
    away = np.stack([np.abs((hue - one + 128) % 256 - 128) for one in HUES.values()])
    return np.argwhere((away.argmin(axis=0) == list(HUES).index(colour)) & (saturation > VIVID))


def cells_apart(item: Item, image: Image.Image) -> str:
    """Of a Relation: how far red and blue are from each other along the axis asked for."""
    axis = 0 if "above" in item["choices"] else 1
    red, blue = (where(image, colour).mean(axis=0)[axis] for colour in ("red", "blue"))
    return f"{abs(red - blue) / (image.height / 3):.0f} cells apart"


def side(item: Item, image: Image.Image) -> str:
    """Of a Distance: where the star is, and which object is nearer."""
    left = where(image, "green").mean(axis=0)[1] < image.width / 2
    return f"star on the {'left' if left else 'right'}, gold {item['gold']}"


def count(item: Item, image: Image.Image) -> str:
    """Of a Count: the gold number."""
    return f"{'ABCD'.index(item['gold'][1]) + 1} objects"


def right(items: list[Item], images: Scenes, task: str, kind: Callable[[Item, Image.Image], str]) -> str:
    """Right answers of a task by the kind of its scene."""
    found: dict[str, list[float]] = defaultdict(list)
    for item in items:
        if item["task"] == task:
            found[kind(item, images[item["id"]])].append(item["correct"])
    rows = [[name, f"{sum(one):.0f} of {len(one)}"] for name, one in sorted(found.items())]
    return markdown_table([task, "right"], rows)


def areas(items: list[Item], images: Scenes) -> str:
    """Mean pixels of the counted colour, by what was answered."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for item in items:
        if item["task"] == "scenes/Count" and re.fullmatch(r"\([A-D]\)", item["answer"] or ""):
            colour = item["question"].split()[2]
            area = len(where(images[item["id"]], colour))
            found[count(item, images[item["id"]]), item["answer"]].append(area)
    rows = [
        [gold, answer, str(len(one)), f"{fmean(one):.0f}"] for (gold, answer), one in sorted(found.items())
    ]
    return markdown_table(["scenes/Count", "answered", "times", "pixels of the colour"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluation", help="file of the quickstart's eval/")
    with open(parser.parse_args().evaluation) as file:
        items = json.load(file)["items"]
    _, split, seed, _ = items[0]["id"].split("-")
    images = {sample.id: sample.images[0] for sample in islice(scenes("", split=split, seed=int(seed)), 640)}
    kinds = {"scenes/Count": count, "scenes/Relation": cells_apart, "scenes/Distance": side}
    for task, kind in kinds.items():
        print(right(items, images, task, kind), end="\n\n")
    print(areas(items, images))
