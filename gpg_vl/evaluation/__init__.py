"""Benchmarks, grading, intervals, comparisons.

A model and prepared questions come in; an evaluation goes out: every item with its score, and figures with
their intervals.
"""
