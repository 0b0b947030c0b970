"""vLLM as the engine: over HTTP, or in the trainer's own processes, with the trainer's weights."""
