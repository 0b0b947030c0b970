"""The policy: load, pack, forward, save; and the families of models that it can be.

Packed rows of tokens come in; log-probabilities, or hidden states and caches, go out.
"""
