"""The shipped recipes."""

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = [file for file in sorted(CONFIGS.rglob("*.yaml")) if file.parent.name != "accelerate"]
