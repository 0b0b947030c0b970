"""Rewards for the loop's tests: an untrained model varies in them, and a few steps raise them."""

import os
import signal
import zlib

from gpg_vl.registry import reward

_asked: list[int] = []


@reward("letters")
def letters(completion, sample):
    """How often "e" occurs."""
    return float(completion.text.count("e"))


@reward("letters_then_stop")
def letters_then_stop(completion, sample):
    """The same, and asks the process to stop when it is first called."""
    if not _asked:
        _asked.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
    return letters(completion, sample)


@reward("distinct", kind="shaping")
def distinct(completion, sample):
    """A number in [0, 1) that differs between any two answers: every group is valid."""
    return zlib.crc32(str(completion.token_ids).encode()) / 2**32
