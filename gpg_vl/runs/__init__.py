"""A run's folder and what is in it.

`folder` says who owns it and what it was started with, `files` reads what it holds, `checkpoint` writes and
finds the states it can go on from.
"""
