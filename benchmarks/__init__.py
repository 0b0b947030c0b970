"""Measurements, run by hand: `python -m benchmarks.NAME`. Results are in docs/benchmarks.md."""
