"""Make a small Qwen2-VL of random weights in tiny/, which a CPU trains in seconds."""

from pathlib import Path

from gpg_vl.model.tiny import save_tiny

save_tiny(Path("tiny"), ["How many discs? 0123456789"])
