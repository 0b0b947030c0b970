"""What `gpg-vl serve` takes for an interpreter with vLLM: it answers /health, and has a child process.

Its words behind `--` say how it ends: `--crash` at once. PIDS names a file for its process ids.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PIDS = "GPG_VL_TEST_PIDS"


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


def install(folder: Path, packages: list[str]) -> str:
    """An executable that is this file, in an environment with these packages."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\nPACKAGES='{json.dumps(packages)}' exec {sys.executable} {__file__} \"$@\"\n")
    file.chmod(0o755)
    return str(file)


def main(words: list[str]) -> None:
    """As the interpreter: `-c` asks what is installed, `-m` starts vLLM."""
    if words[0] == "-c":
        print(json.dumps([json.loads(os.environ["PACKAGES"]), False]))
        return
    print("INFO: starting", flush=True)
    if "--crash" in words:
        sys.exit("RuntimeError: not enough memory for the cache")
    child = subprocess.Popen(["sleep", "600"])
    Path(os.environ[PIDS]).write_text(f"{os.getpid()} {child.pid}")
    place = {flag: words[words.index(flag) + 1] for flag in ("--host", "--port")}
    server = HTTPServer((place["--host"], int(place["--port"])), _Health)

    def end(*_: object) -> None:
        print("INFO: asked to end", flush=True)
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main(sys.argv[1:])
