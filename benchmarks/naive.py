"""One step written plainly with transformers: `generate`, a full forward, backward."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

from benchmarks.inputs import samples, suppressed_tokens, text_score
from benchmarks.phases import Phases, warm_and_measure
from benchmarks.workloads import Workload
from gpg_vl.algorithm.advantages import group_advantages
from gpg_vl.config import OptimConfig
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.training.optim import build_optimizer

Inputs = dict[str, Tensor]


def load(model: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and processor."""
    processor = AutoProcessor.from_pretrained(model)
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(model, dtype=dtype, attn_implementation="sdpa")
    return loaded, processor


def encode(workload: Workload, processor: Any, questions: slice = slice(None)) -> Inputs:
    """Every question G times, with its image, padded on the left."""
    repeated = [sample for sample in samples(workload)[questions] for _ in range(workload.group_size)]
    texts = [
        processor.apply_chat_template(Prompt().messages(sample), tokenize=False, add_generation_prompt=True)
        for sample in repeated
    ]
    images = [list(sample.images) for sample in repeated]
    options = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    return dict(processor(text=texts, images=images, **options))


def answer_logprobs(model: Any, prompts: Inputs, answers: Tensor, suppressed: Tensor | None = None) -> Tensor:
    """Log-probabilities (N, T) of `answers` (N, T) behind `prompts`; the vocabulary is projected for the
    answers only. `suppressed` (V,) tokens count as impossible."""
    model.model.rope_deltas = None
    ones, zeros = torch.ones_like(answers), torch.zeros_like(answers)
    behind = {"input_ids": answers, "attention_mask": ones, "mm_token_type_ids": zeros}
    rows = prompts | {name: torch.cat([prompts[name], part], dim=1) for name, part in behind.items()}
    logits = model(**rows, use_cache=False, logits_to_keep=answers.shape[1] + 1).logits[:, :-1]  # (N, T, V)
    if suppressed is not None:
        logits = logits.masked_fill(suppressed, float("-inf"))
    return logits.log_softmax(dim=-1).gather(-1, answers[..., None])[..., 0]


def gpg_loss(logprobs: Tensor, advantages: Tensor, questions: int) -> Tensor:
    """One group's share of the loss: logprobs (G, T), advantages (G,)."""
    return -(logprobs * advantages[:, None]).sum() / logprobs.numel() / questions


def run(workload: Workload, model: Path, phases: Phases) -> None:
    """Measure one step."""
    policy, processor = load(model)
    optimizer = build_optimizer(policy, OptimConfig())
    phases.hook_model(policy)
    sampling = {"max_new_tokens": workload.new_tokens, "do_sample": True, "top_k": 0, "top_p": 1.0}
    sampling["suppress_tokens"] = suppressed_tokens(processor, policy)

    def step(_: int) -> None:
        prompts = encode(workload, processor)
        policy.eval()
        with phases("decode"), torch.no_grad():
            rows = policy.generate(**prompts, **sampling)
        answers = rows[:, prompts["input_ids"].shape[1] :]
        with phases("rewards"):
            texts = processor.batch_decode(answers, skip_special_tokens=True)
            rewards = torch.tensor([text_score(text) for text in texts]).view(workload.questions, -1)
        advantages = group_advantages(rewards).values.float()
        policy.train()
        for question, group in enumerate(answers.split(workload.group_size)):
            own = encode(workload, processor, slice(question, question + 1))
            with phases("forward"):
                loss = gpg_loss(answer_logprobs(policy, own, group), advantages[question], workload.questions)
            with phases("backward"):
                loss.backward()
        with phases("optimizer"):
            torch.nn.utils.clip_grad_norm_(policy.parameters(), OptimConfig().max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()

    warm_and_measure(step, phases)
