"""Questions in, groups of answers out.

Each prompt is read once; its answers share that cache, and finished ones make room for the next question's.
"""
