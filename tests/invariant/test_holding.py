"""Weights held in the arithmetic's type: the same numbers as autocast's copies give, in less memory."""

import shutil
from pathlib import Path

import torch

from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.engine import Request, RolloutEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of, noise
from tests.support.packed import rows_of

SAMPLES = [
    Sample("long", "t", "Where is it? " * 8, "1", "math"),
    Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
]
FROZEN = Holding.untrained(bf16=True)


def load(folder: Path, holding: Holding) -> Policy:
    return load_policy(str(folder), precision="bf16", holding=holding)


def halved(folder: Path, out: Path) -> Path:
    """The model with weights that bf16 holds, as published ones are."""
    shutil.copytree(folder, out)
    policy = load_policy(str(folder))
    for weight in policy.parameters():
        weight.data = weight.data.bfloat16().float()
    policy.model.save_pretrained(out)
    return out


def prompts_of(policy: Policy) -> list[EncodedPrompt]:
    return encoder_of(policy).encode(SAMPLES if policy.takes_images else SAMPLES[:1])


def groups_of(policy: Policy) -> list[tuple[EncodedPrompt, list[tuple[int, ...]]]]:
    usable = (~policy.suppressed).nonzero().flatten()
    picks = torch.randint(len(usable), (6,), generator=torch.Generator().manual_seed(0))
    return [(prompt, [tuple(usable[picks].tolist())] * 2) for prompt in prompts_of(policy)]


def test_frozen_weights_in_bf16_change_no_number(family_folder, tmp_path):
    folder = halved(family_folder, tmp_path / "model")
    whole, held = load(folder, Holding()), load(folder, FROZEN)
    assert any(weight.dtype == torch.bfloat16 for weight in held.parameters())
    requests = [Request(prompt, str(number)) for number, prompt in enumerate(prompts_of(whole))]
    sampling = Sampling(max_new_tokens=12)
    answers = [RolloutEngine(one, max_concurrent=8).generate(requests, 2, sampling) for one in (whole, held)]
    assert answers[0] == answers[1]
    batch = whole.collate(rows_of(groups_of(whole), "group"))
    with torch.no_grad():
        for found, expected in zip(held(batch, 1.0), whole(batch, 1.0), strict=True):
            assert torch.equal(found, expected)
