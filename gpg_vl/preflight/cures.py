"""What to change in a run that does not fit its card, in the order of what it costs."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec

from gpg_vl.preflight.memory import GIB
from gpg_vl.preflight.plan import ROOM, Plan

LORA_RANK = 64
"""Of adapters that are proposed."""
_LEAST_GAIN = 0.98
"""A change is named only if it leaves at most this share of the peak."""


def gib(size: float) -> str:
    """Bytes in GiB, with the digits that matter."""
    return f"{size / GIB:.1f}" if size >= GIB else f"{size / GIB:.2g}"


def remedies(changes: Iterable[tuple[str, float]], peak: float, capacity: float) -> str:
    """Changes in words, one upon the other until the peak (bytes) fits, each with the peak that it leaves.

    Those that leave nearly as much are passed over.
    """
    steps = []
    for words, left in changes:
        if left > _LEAST_GAIN * peak:
            continue
        steps.append(f"{words}: {gib(left)}")
        peak = left
        if peak <= ROOM * capacity:
            return "; then ".join(steps)
    steps.append("that is not enough: larger cards, or more of them with --accelerate zero3")
    return "; then ".join(steps)


def changes(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """The plan after each change, in the order of what they cost, each on top of those before.

    A change that cannot stand beside an earlier one says what it takes the place of.
    """
    if not plan.config.model.gradient_checkpointing:
        plan = plan.with_section("model", gradient_checkpointing=True)
        yield "model.gradient_checkpointing true", plan
    for words, smaller in less_at_a_time(plan):
        plan = smaller
        yield words, plan
    yield from _other_optimizers(plan)
    place = " in place of optim.kind adamw8bit" if _takes_8bit(plan) else ""
    for zero in range(plan.machine.zero + 1, 4) if plan.machine.processes > 1 else ():
        plan = replace(_plain(plan), machine=replace(plan.machine, zero=zero))
        yield f"ZeRO-{zero}{place}", plan
        place = ""
    yield from _adapters(plan)


def less_at_a_time(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Smaller micro-batches, down to one answer, then fewer answers at a time, down to one group.

    Both change nothing in what is learned but rounding.
    """
    least = plan.lengths.prompt + plan.config.rollout.max_new_tokens
    while (tokens := plan.config.run.micro_batch_tokens // 2) >= least:
        plan = plan.with_section("run", micro_batch_tokens=tokens)
        yield f"run.micro_batch_tokens {tokens}", plan
    while (answers := plan.config.rollout.max_concurrent // 2) >= plan.config.rollout.group_size:
        plan = plan.with_section("rollout", max_concurrent=answers)
        yield f"rollout.max_concurrent {answers}", plan


def _takes_8bit(plan: Plan) -> bool:
    """Whether 8-bit moments can be proposed: DeepSpeed has its own."""
    return not plan.machine.zero and find_spec("bitsandbytes") is not None


def _other_optimizers(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """8-bit moments, then bf16 weights, then moments in the machine's memory."""
    model, optim = plan.config.model, plan.config.optim
    if _takes_8bit(plan) and optim.kind == "adamw":
        plan = plan.with_section("optim", kind="adamw8bit")
        yield "optim.kind adamw8bit", plan
    halves = plan.bf16 and model.trained_precision == "fp32" and not model.lora_rank
    if _takes_8bit(plan) and halves:
        plan = plan.with_section("model", trained_precision="bf16").resized()
        yield "model.trained_precision bf16", plan
    if plan.machine.gpu and not plan.machine.zero and not optim.offload:
        yield "optim.offload true", plan.with_section("optim", offload=True)


def _plain(plan: Plan) -> Plan:
    """With AdamW over fp32 weights, as DeepSpeed and adapters have it."""
    if plan.config.model.trained_precision == "bf16":
        plan = plan.with_section("model", trained_precision="fp32").resized()
    return plan.with_section("optim", kind="adamw", offload=False)


def _adapters(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """LoRA on a base in the arithmetic's type, then on one in 4 bits."""
    model = plan.config.model
    if not model.lora_rank and not model.freeze_language and find_spec("peft"):  # an extra of the package
        replaced = "model.trained_precision, optim.kind and optim.offload"  # as proposed before
        before = replaced if _takes_8bit(plan) else "full weights"
        plan = _plain(plan).with_section("model", lora_rank=LORA_RANK, frozen_precision="auto").resized()
        yield f"model.lora_rank {LORA_RANK} in place of {before}", plan
    elif model.lora_rank and model.frozen_precision == "fp32" and plan.bf16:
        plan = plan.with_section("model", frozen_precision="bf16").resized()
        yield "model.frozen_precision bf16", plan
    quantised = plan.config.model.frozen_precision == "nf4"
    if plan.config.model.lora_rank and not quantised and plan.bf16 and _takes_8bit(plan):
        yield "model.frozen_precision nf4", plan.with_section("model", frozen_precision="nf4").resized()
