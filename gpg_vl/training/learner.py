"""A model in training: micro-batches, backward, optimizer step, saving; on one process or many."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.model.loading import nonfinite_weights
from gpg_vl.model.packing import PackedBatch, Row, Segment, cut
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt, PromptEncoder
from gpg_vl.runs.checkpoint import TrainState, random_states, save_checkpoint
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.states import write_state
from gpg_vl.runtime.devices import send
from gpg_vl.runtime.files import write_whole
from gpg_vl.runtime.parallel import World
from gpg_vl.runtime.profiling import phase
from gpg_vl.training.optim import set_learning_rate
from gpg_vl.types import Sample


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass takes."""

    rows: tuple[Row, ...]
    """This process's rows; none where only a dummy keeps step with the other processes."""
    packed: PackedBatch
    """On the device."""
    answer_index: Tensor
    """(M,) as in `packed`, on the CPU."""
    last: bool
    """Whether gradients synchronise behind it."""

    @property
    def tokens(self) -> int:
        """Targets of `rows`; those of a dummy stand behind them."""
        return sum(row.targets for row in self.rows)


@dataclass
class Learner:
    """A model being trained on prepared data; what `train` and `sft` have in common."""

    accelerator: Accelerator
    world: World
    policy: Policy
    model: Any
    """The policy as `accelerator.prepare` wrapped it; the gradient pass calls nothing else."""
    optimizer: Any
    encoder: PromptEncoder
    data: PreparedDataset
    sampler: Sampler
    step: int
    """Optimizer steps done."""

    @property
    def engine(self) -> Any:
        """DeepSpeed's engine; None without DeepSpeed."""
        return self.model if self.accelerator.state.deepspeed_plugin is not None else None

    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> Iterator[MicroBatch]:
        """This process's rows cut by tokens; gradients synchronise on the last part only.

        All processes get equally many, so collectives inside the model (DDP's, ZeRO-3's) stay matched: where
        a process has fewer, dummies of weight 0 fill up. Nothing here waits for a GPU, which works on the
        micro-batch before while this one is collated.
        """
        parts = cut(rows, max_tokens)
        count = max(self.world.gather([len(parts)]))
        for number in range(count):
            part = parts[number] if number < len(parts) else []
            collated = self.policy.collate(self._in_step(part))
            packed = collated.to(self.accelerator.device)
            last = number == count - 1
            with self._gradients(synchronise=last):
                yield MicroBatch(tuple(part), packed, collated.answer_index, last)

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor on the model's device, without waiting for it."""
        return send(tensor, self.accelerator.device)

    def with_images(self, rows: Sequence[Row], sources: Sequence[int]) -> list[Row]:
        """Rows whose prompts have their images: those that another process sampled come without.

        `sources` is the data's row for each answer of the step.
        """
        encoded: dict[int, EncodedPrompt] = {}

        def whole(segment: Segment) -> Segment:
            prompt = segment.prompt
            if prompt.pixel_values is not None or not prompt.has_images:
                return segment
            if id(prompt) not in encoded:  # rows of one group share the prompt, and must go on to
                (encoded[id(prompt)],) = self.encoder.encode([self.data[sources[segment.indices[0]]]])
            return replace(segment, prompt=encoded[id(prompt)])

        return [Row(tuple(whole(segment) for segment in row.segments)) for row in rows]

    def _in_step(self, part: list[Row]) -> list[Row]:
        """With a dummy where a pass would not touch what it has to.

        With several processes that is the whole model, the vision tower included; with one it is something
        that is trained, which only images touch where the language model is frozen.
        """
        has_image = any(s.prompt.has_images for row in part for s in row.segments)
        if part and (has_image or not self.policy.takes_images):
            return part
        return [*part, self._dummy] if self.world.size > 1 or self.policy.frozen_language else part

    @cached_property
    def _dummy(self) -> Row:
        """The smallest row: a word, an image if the model takes them, and one token of answer -1."""
        images = (Image.new("RGB", (28, 28)),) if self.policy.takes_images else ()
        sample = Sample("dummy", "dummy", "?", "?", "label", images=images)
        (prompt,) = self.encoder.encode([sample])
        token = int((~self.policy.suppressed).nonzero()[0])  # its log-probability must be finite
        return Row((Segment(prompt, ((token,),), (-1,)),))

    def _gradients(self, *, synchronise: bool) -> contextlib.AbstractContextManager[Any]:
        if synchronise or self.engine is not None:  # DeepSpeed is told in `backward`
            return contextlib.nullcontext()
        return self.accelerator.no_sync(self.model)

    @phase("backward")
    def backward(self, loss: Tensor, micro: MicroBatch) -> None:
        """Add a micro-batch's gradient. Losses add up over processes, which average gradients instead."""
        loss = loss * self.world.size
        if self.engine is None:
            self.accelerator.backward(loss)
        else:
            self.engine.set_gradient_accumulation_boundary(is_boundary=micro.last)
            self.engine.backward(loss)

    @phase("optimizer")
    def optimizer_step(self, rate: float, max_grad_norm: float) -> float:
        """Clip, step and clear; returns the gradient norm before clipping.

        A gradient that is not finite is dropped: one such step would destroy the weights.
        """
        set_learning_rate(self.optimizer, rate)
        norm = self._step(max_grad_norm)
        self.policy.check_slopes()  # wrong ones made it NaN, so nothing was followed
        return norm

    def _step(self, max_grad_norm: float) -> float:
        if self.engine is not None:  # clips by its own configuration, and drops what is not finite
            self.engine.step()
            return float(self.engine.get_global_grad_norm())
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), max_grad_norm or math.inf))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    @contextlib.contextmanager
    def whole_weights(self) -> Iterator[None]:
        """All weights on this process, for rollouts and saving: gathered once under ZeRO-3, else as they are.

        DeepSpeed's hooks are taken off meanwhile: they would release each layer behind its forward, and
        processes decode different numbers of tokens.
        """
        if self.engine is None or self.engine.zero_optimization_stage() < 3:
            yield
            return
        import deepspeed  # an import of seconds, for ZeRO-3 alone

        offload = self.engine.optimizer.parameter_offload
        with deepspeed.zero.GatheredParameters(list(self.policy.parameters())):
            for hook in (*offload.forward_hooks, *offload.backward_hooks):
                hook.remove()
            offload.forward_hooks, offload.backward_hooks = [], []
            try:
                yield
            finally:
                offload._register_deepspeed_module(offload.module)

    def sound(self) -> bool:
        """Whether weights and log-probabilities are finite on all processes, which all call it.

        The step's own pass came before the weights were changed, so the smallest row is read anew.
        """
        eager = torch.compiler.set_stance("force_eager")  # one small pass is not worth compiling for
        with self.whole_weights(), torch.no_grad(), eager:
            fine = not nonfinite_weights(self.policy.named_parameters())
            if fine:
                batch = self.policy.collate([self._dummy]).to(self.accelerator.device)
                logprobs, _ = self.policy(batch, 1.0)
                fine = bool(logprobs.isfinite().all())
        return not self.world.any(not fine)

    def save(self, folder: RunFolder, card: Mapping[str, Any], settings: str, keep_last: int) -> None:
        """Write a checkpoint of the current step, with the run's settings; called by all processes."""
        own_optimizer = self.optimizer.state_dict() if self.engine is None else None
        state = TrainState(self.step, self.sampler.consumed, own_optimizer, self.layout)

        def save_model(path: Path) -> None:
            with self.whole_weights():
                if self.world.main:
                    self.policy.save(path, card)
                self.world.wait()

        def save_shards(path: Path) -> None:
            if self.world.main:
                write_whole(path / "config.yaml", settings)
            write_state(path / f"random_{self.world.rank:05d}.pt", random_states())
            if self.engine is not None:
                self.engine.save_checkpoint(str(path / "deepspeed"), tag="state")

        save_checkpoint(folder.checkpoints, state, save_model, save_shards, self.world, keep_last=keep_last)

    @property
    def layout(self) -> str:
        """How the optimizer's state is spread; a checkpoint of another layout cannot be resumed."""
        if self.engine is None:
            return "whole"
        return f"ZeRO-{self.engine.zero_optimization_stage()} on {self.world.size} processes"


def deal(rows: Sequence[Row], world: World) -> list[Row]:
    """This rank's rows, such that all ranks have about the same number of tokens.

    Longest first, always to the rank with the least: the same result on every rank.
    """
    shares: list[list[Row]] = [[] for _ in range(world.size)]
    loads = [0] * world.size
    for row in sorted(rows, key=lambda row: -row.length):
        rank = loads.index(min(loads))
        shares[rank].append(row)
        loads[rank] += row.length
    return shares[world.rank]
