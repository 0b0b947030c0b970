"""Draw 600 images and write a question about each: what your own images and rows.jsonl would be."""

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

chance = random.Random(0)
Path("images").mkdir(exist_ok=True)
with open("rows.jsonl", "w") as rows:
    for number in range(600):
        image, count = Image.new("RGB", (84, 84), "white"), chance.randint(1, 4)
        for cell in chance.sample(range(9), count):
            x, y = (28 * side + chance.randint(0, 7) for side in divmod(cell, 3))
            ImageDraw.Draw(image).ellipse((x, y, x + 20, y + 20), fill="red")
        image.save(f"images/{number}.png")
        row = {"image": f"images/{number}.png", "question": "How many discs?", "answer": count}
        print(json.dumps(row), file=rows)
