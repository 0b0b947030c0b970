"""A server of its own."""

import argparse
from dataclasses import fields

from tests.support.fake_vllm.endpoints import Mischief
from tests.support.fake_vllm.server import serve


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    for one in fields(Mischief):
        flag = {"action": "store_true"} if isinstance(one.default, bool) else {"type": type(one.default)}
        parser.add_argument(f"--{one.name}", default=one.default, **flag)
    given = parser.parse_args()
    mischief = Mischief(**{one.name: getattr(given, one.name) for one in fields(Mischief)})
    serve(given.model, given.host, given.port, "/dev/stdout", "", mischief)


if __name__ == "__main__":
    main()
