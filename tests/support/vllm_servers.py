"""`gpg-vl serve` in a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.launched import free_port
from tests.support.vllm_engines import BLOCKS


class Serve:
    """A server that can be killed and started again at its address."""

    def __init__(self, folder: Path, model: Path, *options: object) -> None:
        """Does not wait until it is up; what it and vLLM write lies in `folder`."""
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._starts = 0
        self._log = folder / "serve.log"
        limits = {"port": port, "max_model_len": 1024, "max_num_seqs": 64}
        words = [word for name, value in limits.items() for word in (f"--{name}", value)]
        words += [*options, "--", "--num-gpu-blocks-override", BLOCKS]
        self._command = [sys.executable, "-m", "gpg_vl", "serve", "--model", model, *words]
        self._environment = os.environ | {"XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
        self._start()

    def _start(self) -> None:
        self._starts += 1
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [str(word) for word in self._command], env=self._environment, stdout=log, stderr=log
            )

    def url(self) -> str:
        """Its address, once it is up."""
        while self._log.read_text().count("ready: ") < self._starts:
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.2)
        return self._url

    def restart(self) -> None:
        """Kill all of vLLM's processes, at which the command ends by itself, and start it anew."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            process.kill()
        assert self._process.wait(60) != 0
        self._start()

    def stop(self) -> None:
        """As Ctrl-C does it; nothing is left of it."""
        processes = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        assert self._process.wait(60) == 0, self._log.read_text()
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
