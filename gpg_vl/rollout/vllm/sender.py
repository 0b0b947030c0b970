"""The trainer's side of a weight update: layers are packed, and sent to one server or several."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors.torch import save_file
from torch import Tensor

from gpg_vl.errors import EngineError
from gpg_vl.rollout.vllm.client import ServerGoneError, VllmClient
from gpg_vl.rollout.vllm.worker.gpg_vl_wire import Link, Packed, address_towards, listen, pack

BUCKET = 256 * 2**20
"""Bytes that are sent at a time, at least; a layer is never cut."""
_JOIN = 120.0
"""Seconds for the workers of a server to join, and for one transfer."""


class Receiver:
    """A server's weights, as the trainer replaces them: `begin`, `send` for each bucket, `finish`."""

    def __init__(self, client: VllmClient, device: torch.device, folder: Path | None) -> None:
        """`device`: where weights are sent from, a GPU over NCCL, else over gloo. `folder`: for files in
        their place, which both sides see."""
        self.client = client
        self._device, self._folder = device, folder
        self._link: Link | None = None
        self._files: Path | None = None
        self._count = 0
        self.version = ""
        """What its weights are called since the last update."""

    def begin(self) -> None:
        """Get ready for an update; joins the workers where they are new."""
        if self._link is None and self._files is None:
            self._join()
        self.client.post("/pause?mode=abort")  # what a trainer that was killed had asked
        try:
            self.client.post("/start_weight_update")
        except ServerGoneError:
            raise
        except EngineError as refusal:
            try:  # such a trainer's update may be open still
                self.client.post("/finish_weight_update")
            except EngineError:
                raise refusal from None
            self.client.post("/start_weight_update")

    def _join(self) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files = Path(tempfile.mkdtemp(dir=self._folder, prefix="weights-"))
            self.client.post("/init_weight_transfer_engine", {"init_info": {}})
            return
        place = urlsplit(self.client.url)
        host = address_towards(place.hostname or "", place.port or 80)
        size = 1 + self.client.workers()
        store = listen(host, size, _JOIN)
        nccl = self._device.type == "cuda"
        info = {"host": host, "port": store.port, "size": size, "nccl": nccl, "seconds": _JOIN}
        with ThreadPoolExecutor(1) as pool:
            joined = pool.submit(self.client.post, "/init_weight_transfer_engine", {"init_info": info})
            try:
                self._link = Link(host, store.port, 0, size, device=self._device, seconds=_JOIN, server=store)
            except RuntimeError as error:
                raise joined.exception() or EngineError(f"{self.client.url}: {error}") from error
            joined.result()

    def send(self, bucket: Packed) -> None:
        """Some of the weights."""
        names = {"names": bucket.names, "dtypes": bucket.dtypes, "shapes": bucket.shapes}
        if self._files is not None:
            self._count += 1
            file = self._files / f"{self._count:05d}.safetensors"
            save_file({name: tensor.clone() for name, tensor in bucket.tensors()}, file)  # no shared memory
            self.client.post("/update_weights", {"update_info": {"file": str(file)}})
            file.unlink()
            return
        assert self._link is not None, "begin joins"
        with ThreadPoolExecutor(2) as pool:
            loaded = pool.submit(self.client.post, "/update_weights", {"update_info": names})
            given = pool.submit(self._link.broadcast, bucket.data)
            wait([loaded, given], return_when=FIRST_EXCEPTION)
            if loaded.done() and loaded.exception() and not given.done():
                self._link.close()  # ends a transfer to workers that are gone
            if refusal := loaded.exception():
                raise refusal
            if lost := given.exception():
                raise ServerGoneError(f"{self.client.url}: weights got lost on their way: {lost}") from lost

    def finish(self, version: str) -> None:
        """The weights are whole, and called `version`. Raises EngineError where some are the old ones."""
        self.client.post("/finish_weight_update", {"weight_version": version})
        if missing := self.client.missing_weights():
            raise EngineError(
                f"{self.client.url} has {len(missing)} weights that the trainer does not send, such as "
                f"{', '.join(missing[:3])}: is it another model?"
            )
        # The first alone would leave what the vision tower made of images with the old weights.
        for cache in ("prefix", "encoder"):
            self.client.post(f"/reset_{cache}_cache")
        self.client.post("/resume")
        self.version = version

    def drop(self) -> None:
        """Forget a server that is gone; it joins anew when it is back."""
        self.version = ""
        with contextlib.suppress(RuntimeError):
            if self._link is not None:
                self._link.close()
        self._link = None
        if self._files is not None:
            shutil.rmtree(self._files, ignore_errors=True)
            self._files = None


def bucketed(parts: Iterable[Sequence[tuple[str, Tensor]]], device: torch.device) -> Iterator[Packed]:
    """Layers as buckets on a device, of `BUCKET` bytes or a little more each."""
    waiting: list[Packed] = []
    for part in parts:
        packed = pack(part)
        waiting.append(packed.to(device))
        if sum(len(one.data) for one in waiting) >= BUCKET:
            yield Packed.join(waiting)
            waiting = []
    if waiting:
        yield Packed.join(waiting)
