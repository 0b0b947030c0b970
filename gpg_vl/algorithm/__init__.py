"""The paper: which groups to collect, their advantages, the batch, the loss.

Groups with rewards and log-probabilities come in, advantages and losses go out. Loads no model,
writes no file, starts no process; advantages and losses are pure functions of tensors.
"""
