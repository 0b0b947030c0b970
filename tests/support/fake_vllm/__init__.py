"""A stand-in for `vllm serve`, over HTTP as the real one; it misbehaves as it is told.

`python -m tests.support.fake_vllm MODEL --host 127.0.0.2 --port 8000` is a server of its own.
"""
