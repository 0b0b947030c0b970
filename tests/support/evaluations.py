"""Two evaluations of four questions, as files hold them."""

from gpg_vl.stats import wilson

RIGHT, WRONG = 1.0, 0.0
OUTCOMES = {"a": (WRONG, RIGHT), "b": (RIGHT, WRONG), "c": (RIGHT, RIGHT), "d": (WRONG, WRONG)}


def item(id, correct, task, question):
    return {
        "id": id,
        "task": task,
        "question": question,
        "choices": ["one", "Zwölf"],
        "gold": "(A)",
        "output": f"<answer>{'(A)' if correct else 'Nothing'}</answer>",
        "answer": "(A)" if correct else None,
        "scores": {"choice": correct},
        "correct": correct,
        "finish_reason": "eos",
        "token_count": 3,
        "prompt": "…",
    }


def evaluation(place, **more):
    items = [
        item(id, pair[place], "t/Odd" if id in "ac" else "t/Even", f"Question {id.upper()}?")
        for id, pair in OUTCOMES.items()
    ]
    share = vars(wilson(2, 4))
    table = {"accuracy": share, "chance": 0.5}
    tasks = {"t/Odd": table, "t/Even": table}
    return {"step": place * 5, "totals": table, "tasks": tasks, "items": items, **more}


def sampled(place, count=4):
    """As `gpg-vl eval --samples` writes it: the answers lie under `samples`, the item has their means."""
    found = evaluation(place, samples=count)
    found["items"] = [_several(one, count) for one in found["items"]]
    return found


def _several(one, count):
    own = ("output", "answer", "scores", "correct", "finish_reason", "token_count")
    answers = [{name: one[name] for name in own} for _ in range(count)]
    other = item(one["id"], WRONG if one["correct"] else RIGHT, one["task"], one["question"])
    answers[-1] = {name: other[name] for name in own}
    kept = {name: value for name, value in one.items() if name not in own}
    means = {"scores": {"choice": sum(each["correct"] for each in answers) / count}}
    return {**kept, **means, "correct": means["scores"]["choice"], "samples": answers}
