"""Rollouts on vLLM in the trainer's own processes, whose memory it gives back while the trainer steps."""

import contextlib
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, EngineError
from gpg_vl.model.adapter_files import base_of, refuse_adapters
from gpg_vl.prompting.encode import Unexpanded
from gpg_vl.rollout.engine import Answer, Done, Engine, Request, Synced, Watch
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm.asking import Asking, kind_of, unexpanded
from gpg_vl.rollout.vllm.serving import WORKER, engine_options, missing_vllm, vllm_variables
from gpg_vl.rollout.vllm.weights import Weights
from gpg_vl.rollout_config import VllmConfig
from gpg_vl.runtime.parallel import World


@dataclass(frozen=True)
class _Asked:
    """A question as all processes of a tensor-parallel group ask it."""

    place: int
    rank: int
    question: Unexpanded
    sampling: Mapping[str, Any]


class VllmEngine(Engine):
    """One LLM a process, or one that `tensor_parallel_size` neighbouring processes share."""

    own = False

    def __init__(
        self,
        config: VllmConfig,
        model: ModelConfig,
        asking: Asking,
        *,
        bf16: bool,
        max_len: int,
        max_concurrent: int,
        world: World | None = None,
        weights: Weights | None = None,
    ) -> None:
        """`max_len`: tokens of a prompt and its answer, at most. Without `weights` the model is only asked.

        Raises ConfigurationError without vLLM, or where processes do not divide into groups.
        """
        self._asking, self._weights, self._world = asking, weights, world or World()
        self.seed, self.max_concurrent, self.version = asking.seed, max_concurrent, -1
        self._size = config.tensor_parallel_size
        if self._world.size % self._size:
            raise ConfigurationError(
                f"rollout.vllm.tensor_parallel_size {self._size} does not divide the {self._world.size} "
                "processes"
            )
        self._gpu = torch.cuda.is_available()
        if config.dtype != "auto":
            bf16 = config.dtype == "bf16"
        if weights is None:
            refuse_adapters(model.path, "vLLM answers with whole models")
        kind, images = kind_of(asking.frontend.family), config.limit_images
        options = engine_options(kind, gpu=self._gpu, bf16=bf16, images=images, max_pixels=model.max_pixels)
        if self._gpu:
            options["gpu_memory_utilization"] = config.gpu_memory_utilization
            options["enable_sleep_mode"] = weights is not None
        if self._world.size > 1:
            options["distributed_executor_backend"] = "external_launcher"
        self._llm = _load(
            self._gpu,
            model=base_of(model.path),
            tensor_parallel_size=self._size,
            max_num_seqs=max_concurrent,
            max_model_len=max_len,
            **options,
        )
        self._asleep = False
        self._calls = 0

    def generate(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        *,
        watch: Watch = lambda _: None,
        done: Done = lambda _, __: None,
    ) -> list[list[Answer]]:
        """As `Engine.generate`; a tensor-parallel group answers the questions of all its processes."""
        engine = self._llm.llm_engine
        asked = self._together(requests, group_size, sampling)
        self._calls += 1
        answers: dict[int, list[Answer]] = {}
        seen: list[list[int]] = [[] for _ in range(len(requests) * group_size)]
        names = {f"{self._calls}-{number}": one for number, one in enumerate(asked)}
        try:
            for name, one in names.items():
                _add(engine, name, one)
            while engine.has_unfinished_requests():
                watch(seen)
                for output in engine.step():
                    one = names[output.request_id]
                    if not output.finished or one.rank != self._world.rank:
                        continue
                    self._asking.check_prompt(requests[one.place], output.prompt_token_ids)
                    group = self._group(output.outputs, group_size, sampling)
                    answers[one.place] = group
                    for number, answer in enumerate(group):
                        seen[one.place * group_size + number].extend(answer.token_ids)
                    done(one.place, group)
            watch(seen)
        except BaseException:
            engine.abort_request(list(names))
            raise
        return [answers[place] for place in range(len(requests))]

    def _together(self, requests: Sequence[Request], group_size: int, sampling: Sampling) -> list[_Asked]:
        """What this process's group asks, in the same order on all of its processes; the longest first."""
        order = sorted(range(len(requests)), key=lambda place: -requests[place].prompt.length)
        own = [
            _Asked(
                place,
                self._world.rank,
                unexpanded(requests[place]),
                self._asking.sampling(requests[place], group_size, sampling),
            )
            for place in order
        ]
        if self._size == 1:
            return own
        group = self._world.rank // self._size
        return [one for one in self._world.gather(own) if one.rank // self._size == group]

    def _group(self, outputs: Sequence[Any], group_size: int, sampling: Sampling) -> list[Answer]:
        found = [
            (
                list(one.token_ids),
                [at[token].logprob for token, at in zip(one.token_ids, one.logprobs, strict=True)],
                one.finish_reason,
            )
            for one in sorted(outputs, key=lambda one: one.index)
        ]
        return self._asking.answers(found, group_size, sampling, max(0, self.version))

    def sync(self, version: int) -> Synced:
        """As `Engine.sync`; wakes it up where it rests."""
        before, self.version = self.version, version
        if self._weights is None or (before == version and not self._asleep):
            return Synced()
        llm = self._llm
        if self._asleep:
            llm.wake_up(["weights"])
        llm.start_weight_update()
        taken = 0
        for part in self._weights():
            taken += sum(tensor.nbytes for _, tensor in part)
            # Kept until vLLM's own layer is complete, which may be after this part's memory is used anew.
            own = [(name, tensor.clone()) for name, tensor in part]
            llm.update_weights({"update_info": {"tensors": own}})
        llm.finish_weight_update(str(version))
        if missing := sorted({name for found in llm.collective_rpc("gpg_vl_missing") for name in found}):
            raise EngineError(f"vLLM has weights that the trainer does not send: {', '.join(missing[:3])}")
        if self._asleep:
            llm.wake_up(["kv_cache"])
            self._asleep = False
        llm.reset_prefix_cache()
        llm.llm_engine.reset_encoder_cache()
        return Synced(taken)

    def rest(self) -> None:
        """Give a GPU's memory back until the next `sync`."""
        if self._gpu and self._weights is not None and not self._asleep:
            self._llm.sleep(level=2)  # weights come anew
            self._asleep = True

    def close(self) -> None:
        """End it while the processes still have their group: vLLM's own way out needs it."""
        self._llm.llm_engine.engine_core.shutdown()


def _load(gpu: bool, *, weight_transfer_config: Mapping[str, str], **options: Any) -> Any:
    """An LLM whose workers are this process, with what asking it needs."""
    inside = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    for name, value in {**vllm_variables(gpu), **inside}.items():
        os.environ.setdefault(name, value)
    sys.path.append(str(WORKER))
    try:
        from vllm import LLM
        from vllm.config import WeightTransferConfig
    except ImportError as error:
        raise missing_vllm(f"this environment ({error})") from error
    if not gpu:
        _share_no_memory()
    transfer = WeightTransferConfig(**weight_transfer_config)
    with _untouched():
        return LLM(**options, seed=0, disable_log_stats=True, weight_transfer_config=transfer)


def _share_no_memory() -> None:
    """Let processes of a tensor-parallel group talk over gloo on a CPU.

    Behind a launcher, vLLM names a group's shared memory the same in every run, so that a second run finds it
    taken, also by one that ended without giving it back. Processes whose names for it differ use none.
    """
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    _CPUSHMDistributed.make_group_name = staticmethod(lambda _: str(os.getpid()))


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """vLLM seeds all random numbers of its process, and on a CPU takes the choice of threads away."""
    choose_threads, plain, numbers = torch.set_num_threads, random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads = choose_threads
        random.setstate(plain)
        np.random.set_state(numbers)


def _add(engine: Any, name: str, one: _Asked) -> None:
    try:
        engine.add_request(name, _prompt(one.question), _parameters(one.sampling))
    except ValueError as error:  # too long, or too many images
        raise EngineError(f"vLLM does not take a question: {error}") from error


def _prompt(question: Unexpanded) -> dict[str, Any]:
    prompt: dict[str, Any] = {"prompt_token_ids": question.token_ids}
    if question.images:
        prompt["multi_modal_data"] = {"image": list(question.images)}
    return prompt


def _parameters(fields: Mapping[str, Any]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(**fields, output_kind=RequestOutputKind.FINAL_ONLY)
