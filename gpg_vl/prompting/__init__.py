"""What the model reads and writes, as text and boxes.

Samples come in, prompts as tokens and pixels go out; generated text comes back and is split into its answer.
"""
