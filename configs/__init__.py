"""Recipes (YAML), shipped as package data."""
