"""The workloads that one step is measured on. They stay as they are: figures of different commits compare."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelSize:
    """Layer sizes of a randomly initialised Qwen2-VL with the published vocabulary: 83 M parameters.

    Narrow and deep: the vocabulary's share of the work is then nearer to that of a full-size model, where
    the layers outweigh it.
    """

    vocabulary: int = 151_936
    hidden: int = 256
    layers: int = 24
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 1536
    vision_hidden: int = 256
    vision_layers: int = 12
    vision_heads: int = 4


@dataclass(frozen=True)
class Workload:
    """One GPG step: its questions, their images, and how many answers of how many tokens each gets."""

    side: int
    """Height and width of every image in pixels; a multiple of 28, so that nobody resizes it."""
    group_size: int
    """G, answers per question."""
    new_tokens: int
    """Tokens of every answer: end-of-text is suppressed for everyone."""
    questions: int
    """B, questions per step."""
    model: ModelSize = field(default_factory=ModelSize)


WORKLOADS = {
    "smoke": Workload(side=112, group_size=4, new_tokens=8, questions=2),
    "336-g8-48": Workload(side=336, group_size=8, new_tokens=48, questions=2),
    "336-g4-48": Workload(side=336, group_size=4, new_tokens=48, questions=2),
    "336-g8-256": Workload(side=336, group_size=8, new_tokens=256, questions=1),
    "560-g8-64": Workload(side=560, group_size=8, new_tokens=64, questions=1),
    "560-g4-64": Workload(side=560, group_size=4, new_tokens=64, questions=1),
}
"""By name: side, G, tokens. `smoke` shows that everything runs and is no measurement."""

QUESTIONS = (
    "How many people in the picture wear a hat?",
    "Is the red car to the left or to the right of the tree, seen from where the photographer stands?",
)
"""Of different lengths; a workload takes them in turn."""

TEXT = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
}
VISION = {
    "depth": 32,
    "embed_dim": 1280,
    "hidden_size": 1536,
    "num_heads": 16,
    "mlp_ratio": 4,
    "patch_size": 14,
    "spatial_merge_size": 2,
}
"""Both as in the config.json of Qwen/Qwen2-VL-2B-Instruct."""
