"""All of docs/own_data.md in Python: rows, a reward, training, comparing, asking."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

import gpg_vl
from gpg_vl.model.tiny import save_tiny

# What fits the tiny model; leave both out for a published one.
TINY = {"prompt": {"instruction": ""}, "run": {"threads": 1}}
SHORT = {"max_new_tokens": 8}


def drawn(chance: random.Random) -> dict:
    """A row. Take your own instead: images may be paths, bytes or Pillow's."""
    image, count = Image.new("RGB", (84, 84), "white"), chance.randint(1, 4)
    for cell in chance.sample(range(9), count):
        x, y = (28 * side + chance.randint(0, 7) for side in divmod(cell, 3))
        ImageDraw.Draw(image).ellipse((x, y, x + 20, y + 20), fill="red")
    return {"image": image, "question": "How many discs?", "answer": count, "answer_type": "number"}


def near(completion, sample, *, scale: float = 1.0):
    """1 for the gold number, less for one that is further away, 0 for what is no number."""
    if not (completion.answer or "").isdecimal():
        return 0.0
    return 1 / (1 + abs(int(completion.answer) - int(sample.answer)) / scale)


class Patience:
    """A callback: ends the run once the mean reward has not risen for `steps`."""

    def __init__(self, steps: int):
        self.steps, self.best = steps, (0.0, 0)

    def on_step(self, step, metrics):
        self.best = max(self.best, (metrics["reward/mean"], step))
        return step - self.best[1] >= self.steps


def main():
    chance = random.Random(0)
    data = {"data": [drawn(chance) for _ in range(600)], "validation": 0.2}

    # With a published model leave the warm start out: model="Qwen/Qwen2-VL-2B-Instruct".
    tiny = save_tiny(Path("tiny"), ["How many discs? 0123456789"])
    warm = gpg_vl.sft(model=tiny, steps=22, optim={"learning_rate": 1.5e-3}, eval=SHORT, **data, **TINY)

    run = gpg_vl.train(
        model=warm.model(),
        rewards={near: {"weight": 1.0, "scale": 0.25}, "format": 0.1},
        steps=80,
        callbacks=[Patience(30)],
        rollout=SHORT,
        eval=SHORT,
        optim={"learning_rate": 3e-4, "warmup_steps": 5},
        **data,
        **TINY,
    )
    print(run.metrics[["reward/mean", "accuracy"]].rolling(20).mean().iloc[19::20])
    print(run.report())

    held_out = run.config.data.validation[0]
    print(gpg_vl.compare(run.evaluations[0], gpg_vl.evaluate(run.model(), held_out, **SHORT)))

    sample = gpg_vl.read(held_out)[0]
    (answers,) = run.model().ask_all([sample], samples=4, **SHORT)
    for answer, score in zip(answers, gpg_vl.score(answers, near).total, strict=True):
        print(f"{answer.text!r} scores {score:.2f}, log-probability {sum(answer.logprobs):.2f}")


if __name__ == "__main__":
    main()
