"""The loop, and what it works with.

A configuration comes in; a run folder with metrics, rollouts and checkpoints goes out. `train` is the paper's
algorithm box on one screen; `warmstart` is supervised fine-tuning in the same frame.
"""
