"""Prepared data sets: written once, read by everything.

Drafts of rows come in from converters, samples with their images go out.
"""
