"""Imported by vLLM's workers (`--worker-extension-cls gpg_vl_worker.Worker`), to take a trainer's weights.

vLLM's own `nccl` backend needs GPUs and names every tensor in one request; this one takes packed layers over
gloo, NCCL, a file, or by reference where trainer and engine are one process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from gpg_vl_wire import Link, packed_size, unpack
from torch import Tensor
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

BACKEND = "gpg_vl"


@dataclass
class Init(WeightTransferInitInfo):
    """Where the trainer is; without a host, weights come as files or by reference."""

    host: str = ""
    port: int = 0
    size: int = 0
    """Processes of the group: the trainer, and all workers."""
    nccl: bool = False
    seconds: float = 600.0


@dataclass
class Update(WeightTransferUpdateInfo):
    """Some of the weights, as a checkpoint names them: in the next broadcast, a file, or here."""

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    file: str = ""
    """A safetensors file, which stands for the three lists."""
    tensors: Any = None
    """Pairs of name and tensor, within one process."""


class TrainerWeights(WeightTransferEngine[Init, Update]):
    """Receives weights a few at a time between `start_weight_update` and `finish_weight_update`."""

    init_info_cls = Init
    update_info_cls = Update
    link: Link | None = None
    missing: frozenset[str] = frozenset()
    """Parameters of the model that the last update left as they were."""

    def init_transfer_engine(self, init_info: Init) -> None:
        self.shutdown()
        if init_info.host:
            self.link = Link(
                init_info.host,
                init_info.port,
                1 + self.parallel_config.rank,
                init_info.size,
                device=self.device if init_info.nccl else torch.device("cpu"),
                seconds=init_info.seconds,
            )

    def start_weight_update(self) -> None:
        self.missing = frozenset(name for name, _ in self.model.named_parameters())
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":  # has nothing to synchronise
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: Update) -> None:
        loaded = self.model.load_weights(self._received(update_info))
        self.missing -= loaded or frozenset()

    def _received(self, update: Update) -> Iterator[tuple[str, Tensor]]:
        if update.tensors is not None:
            yield from update.tensors
        elif update.file:
            from safetensors import safe_open

            with safe_open(update.file, "pt") as file:
                yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
        else:
            if self.link is None:
                raise RuntimeError("no trainer has joined: init_weight_transfer_engine comes first")
            # New memory each time: vLLM keeps views until a layer is complete.
            size = packed_size(update.dtypes, update.shapes)
            data = torch.empty(size, dtype=torch.uint8, device=self.link.device)
            self.link.broadcast(data)
            yield from unpack(data, update.names, update.dtypes, update.shapes)

    def finish_weight_update(self) -> None:
        self.missing |= frozenset(self._partial())
        finalize_layerwise_reload(self.model, self.model_config)

    def _partial(self) -> Iterator[str]:
        """Layers that came in part, such as one of queries, keys and values without the keys: vLLM takes them
        for loaded, with whatever was in the memory. Vocabularies are padded, and never whole."""
        for name, layer in self.model.named_modules():
            info = get_layerwise_info(layer)
            if (
                isinstance(layer, LinearBase)
                and info.can_load()
                and 0 < info.load_numel < info.load_numel_total
            ):
                yield name

    def shutdown(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None


class Worker:
    """Mixed into vLLM's workers; importing this module registers the backend."""

    weight_transfer_engine: TrainerWeights

    def gpg_vl_missing(self) -> list[str]:
        """Parameters that the last update left as they were: vLLM only logs them."""
        return sorted(self.weight_transfer_engine.missing)


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, TrainerWeights)
