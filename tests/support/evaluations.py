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
