"""Rewards at work: run on answers, and tried for what fools them.

Samples with completions come in; a score for every reward and answer goes out.
"""
