"""The paper: which groups to collect, their advantages, the batch, the loss.

Groups with rewards and log-probabilities come in, advantages and losses go out. Pure functions of tensors: no
model, no files, no processes.
"""
