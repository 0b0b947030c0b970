"""A model in training: gradient, optimizer step, saving; on one process or many."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from gpg_vl.data.by_difficulty import Choice
from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.model.loading import nonfinite_weights
from gpg_vl.model.packing import Row, Segment
from gpg_vl.model.policy import Policy
from gpg_vl.model.published import published
from gpg_vl.prompting.card import README
from gpg_vl.prompting.encode import EncodedPrompt, PromptEncoder
from gpg_vl.rollout.engine import Engine
from gpg_vl.runs.checkpoint import TrainState, random_states, save_checkpoint
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.states import write_state
from gpg_vl.runtime.devices import send
from gpg_vl.runtime.files import write_whole
from gpg_vl.runtime.memory import Fit, agree, ended, let_go, release_memory
from gpg_vl.runtime.parallel import World
from gpg_vl.runtime.profiling import phase
from gpg_vl.runtime.watchdog import watched
from gpg_vl.training.chosen import write_choice
from gpg_vl.training.micro_batches import MicroBatch, cut_within, halved
from gpg_vl.training.optim import set_learning_rate
from gpg_vl.types import Metrics, Sample

T = TypeVar("T")
_CURE = "lower run.micro_batch_tokens, rollout.max_concurrent or model.max_pixels"
_SINGLE = f"{_CURE}; a micro-batch of one answer was too large"
_COMMUNICATING = f"DeepSpeed's processes communicate in each pass, so none can repeat it: {_CURE}"


@dataclass
class Learner:
    """A model being trained on prepared data; what `train` and `sft` have in common."""

    accelerator: Accelerator
    world: World
    policy: Policy
    model: Any
    """The policy, or DeepSpeed's engine around it; the gradient pass calls nothing else."""
    optimizer: Any
    encoder: PromptEncoder
    data: PreparedDataset
    sampler: Sampler
    step: int
    """Steps done, as run.steps counts them."""
    micro_batch_tokens: int
    """Tokens per forward and backward pass: run.micro_batch_tokens, or less once memory ran out."""
    out_of_memory: int = 0
    """How often processes ran out of memory and tried again, since `shortages` was asked."""
    sync_seconds: float = 0.0
    """Of bringing weights to the engine, since `syncs` was asked."""
    sync_bytes: int | None = None
    """None where nothing was brought."""
    choice: Choice | None = None
    """The rows by difficulty; None where it has no say."""

    @property
    def engine(self) -> Any:
        """DeepSpeed's engine; None without DeepSpeed."""
        return self.model if self.accelerator.state.deepspeed_plugin is not None else None

    def gradient(self, rows: Sequence[Row], follow: Callable[[Iterator[MicroBatch]], T]) -> T:
        """As `passes`; behind it, weights have all ranks' gradient.

        No hook communicates before all ranks had memory enough, and no copy of the gradient is kept for it.
        """
        found = self.passes(rows, follow)
        if self.engine is None:
            self._add_up()
        return found

    def passes(self, rows: Sequence[Row], follow: Callable[[Iterator[MicroBatch]], T]) -> T:
        """What `follow` makes of this rank's micro-batches.

        Ranks work apart, then agree whether memory sufficed. If it ran out on one, all drop what they have
        and try again with smaller micro-batches, as often as that helps; then OutOfMemoryError is raised on
        all. DeepSpeed communicates in each pass, and gets one try.
        """
        if self.engine is not None:
            return self._engine_passes(rows, follow)
        while True:
            parts = cut_within(rows, self.micro_batch_tokens)
            taken: list[list[Row]] = []
            done: list[T] = []
            failure: torch.OutOfMemoryError | None = None
            try:
                done.append(follow(self._micro_batches(parts, taken)))
            except torch.OutOfMemoryError as error:
                let_go(error)
                failure = error
            if self._enough(failure, taken):
                return done[0]

    def _enough(self, failure: torch.OutOfMemoryError | None, taken: Sequence[Sequence[Row]]) -> bool:
        """Whether memory sufficed on all ranks; else they are ready for another try."""
        fit = Fit(self.micro_batch_tokens)
        if failure is not None:
            limit = halved(taken[-1], self.micro_batch_tokens) if taken else 0
            if not limit:
                failure.add_note(_SINGLE)
            fit = Fit(limit, tries=1, end="" if limit else ended(failure))
            self.optimizer.zero_grad()
            release_memory()
        limit, tries = agree(self.world, fit, "run.micro_batch_tokens", failure)
        if not tries:
            return True
        self.micro_batch_tokens = limit
        self.out_of_memory += tries
        self.optimizer.zero_grad()
        return False

    def _add_up(self) -> None:
        """Sum the ranks' gradients; a weight that has none on any rank stays without, as on one process."""
        weights = [weight for weight in self.policy.parameters() if weight.requires_grad]
        missing = {number for number, weight in enumerate(weights) if weight.grad is None}
        nowhere = set.intersection(*self.world.gather([missing]))
        followed = [weight for number, weight in enumerate(weights) if number not in nowhere]
        for weight in followed:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.world.add_up([weight.grad for weight in followed if weight.grad is not None])

    def bring_weights(self, engine: Engine, limit: float) -> None:
        """The weights of now to where answers are sampled; longer than `limit` seconds prints stacks."""
        if engine.own:
            engine.sync(self.step)
            return
        start = time.perf_counter()
        with watched("sync", self.world.rank, limit), phase("sync"):
            sent = engine.sync(self.step).bytes
        self.sync_seconds += time.perf_counter() - start
        self.sync_bytes = (self.sync_bytes or 0) + sent

    def syncs(self) -> Metrics:
        """Seconds and bytes of `bring_weights` since the last call, those before an evaluation included."""
        if self.sync_bytes is None:
            return {}
        found: Metrics = {"seconds/sync": self.sync_seconds, "sync_bytes": self.sync_bytes}
        self.sync_seconds, self.sync_bytes = 0.0, None
        return found

    def shortages(self) -> Metrics:
        """`out_of_memory` since the last call, unless it is 0."""
        tries, self.out_of_memory = self.out_of_memory, 0
        return {"out_of_memory": tries} if tries else {}

    def _engine_passes(self, rows: Sequence[Row], follow: Callable[[Iterator[MicroBatch]], T]) -> T:
        """`passes` under DeepSpeed: collectives in the model stay matched, as all ranks do equally many
        passes; where one has fewer, dummies of weight 0 fill up."""
        parts = cut_within(rows, self.micro_batch_tokens)
        count = max(self.world.gather([len(parts)]))
        parts += [[] for _ in range(count - len(parts))]
        try:
            return follow(self._micro_batches(parts, []))
        except torch.OutOfMemoryError as error:
            error.add_note(_COMMUNICATING)
            raise

    def _micro_batches(self, parts: Sequence[list[Row]], taken: list[list[Row]]) -> Iterator[MicroBatch]:
        """On the device one by one, each noted in `taken` before.

        Nothing here waits for a GPU, which works on the micro-batch before while this one is collated.
        """
        for number, part in enumerate(parts, start=1):
            taken.append(part)
            collated = self.policy.collate(self._in_step(part))
            packed = collated.to(self.accelerator.device)
            yield MicroBatch(tuple(part), packed, collated.answer_index, last=number == len(parts))

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

        DeepSpeed's hooks wait for the whole model, the vision tower included; else it is something that is
        trained, which only images touch where the language model is frozen.
        """
        has_image = any(s.prompt.has_images for row in part for s in row.segments)
        if part and (has_image or not self.policy.takes_images):
            return part
        matched = self.engine is not None and self.world.size > 1
        return [*part, self._dummy] if matched or self.policy.frozen_language else part

    @cached_property
    def _dummy(self) -> Row:
        """The smallest row: a word, an image if the model takes them, and one token of answer -1."""
        images = (Image.new("RGB", (28, 28)),) if self.policy.takes_images else ()
        sample = Sample("dummy", "dummy", "?", "?", "label", images=images)
        (prompt,) = self.encoder.encode([sample])
        token = int((~self.policy.suppressed).nonzero()[0])  # its log-probability must be finite
        return Row((Segment(prompt, ((token,),), (-1,)),))

    @phase("backward")
    def backward(self, loss: Tensor, micro: MicroBatch) -> None:
        """Add a micro-batch's gradient. Losses add up over processes; DeepSpeed averages gradients."""
        if self.engine is None:
            loss.backward()
        else:
            self.engine.set_gradient_accumulation_boundary(is_boundary=micro.last)
            self.engine.backward(loss * self.world.size)

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
        norm = float(clip_grad_norm_(self.policy.parameters(), max_grad_norm or math.inf))
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
        if not self._spread:
            yield
            return
        offload = self.engine.optimizer.parameter_offload
        with self._gathered(list(self.policy.parameters())):
            for hook in (*offload.forward_hooks, *offload.backward_hooks):
                hook.remove()
            offload.forward_hooks, offload.backward_hooks = [], []
            try:
                yield
            finally:
                offload._register_deepspeed_module(offload.module)

    def published(self, dtype: torch.dtype | None = None) -> Iterator[list[tuple[str, Tensor]]]:
        """The policy's `published` weights, which all processes ask for: under ZeRO-3 a part at a time is
        whole."""
        return published(self.policy, self._gathered, dtype)

    @property
    def _spread(self) -> bool:
        """Whether each process holds a share of every weight, as under ZeRO-3."""
        return self.engine is not None and self.engine.zero_optimization_stage() == 3

    def _gathered(self, weights: Sequence[nn.Parameter]) -> contextlib.AbstractContextManager[Any]:
        """A context in which these weights are whole on all processes, which all enter it."""
        if not self._spread:
            return contextlib.nullcontext()
        import deepspeed  # an import of seconds, for ZeRO-3 alone

        return deepspeed.zero.GatheredParameters(weights)

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

    def save(
        self, folder: RunFolder, card: Mapping[str, Any], readme: str, settings: str, keep_last: int
    ) -> None:
        """Write a checkpoint of the current step, with the run's settings; called by all processes.

        `readme` is the model card, for people; that of the first process is written.
        """
        own_optimizer = self.optimizer.state_dict() if self.engine is None else None
        state = TrainState(self.step, self.sampler.consumed, own_optimizer, self.layout)

        def save_model(path: Path) -> None:
            with self.whole_weights():
                if self.world.main:
                    self.policy.save(path, card)
                    write_whole(path / README, readme)
                self.world.wait()

        def save_shards(path: Path) -> None:
            if self.world.main:
                write_whole(path / "config.yaml", settings)
                if self.choice is not None:
                    write_choice(path, self.choice)
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
