"""Text models: Qwen2 (which Qwen2.5 is too), Qwen3 and Llama."""

from gpg_vl.model.families.family import Family

text = Family()
