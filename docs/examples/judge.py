"""A reward that asks a judge: one request per answer to a server that speaks OpenAI's chat protocol."""

import re

import httpx

from gpg_vl.registry import reward

client = httpx.AsyncClient(timeout=None)  # the reward's deadline counts
ASK = "Question: {}\nRight answer: {}\nAnswer: {}\nHow good is the answer? Reply with a number from 0 to 10."


@reward(deadline=60, concurrency=32, bounds=(0, 1))
async def judge(completion, sample, *, url: str, model: str = "judge") -> float | None:
    """The judge's mark, from 0 to 1; no score where it does not reply with one."""
    text = ASK.format(sample.question, sample.answer, completion.answer)
    body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
    reply = await client.post(f"{url}/v1/chat/completions", json=body)
    if reply.is_error:
        return None
    mark = re.search(r"\d+(\.\d+)?", reply.json()["choices"][0]["message"]["content"])
    return min(10.0, float(mark[0])) / 10 if mark else None
