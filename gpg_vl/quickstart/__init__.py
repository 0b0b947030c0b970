"""The five-minute tour: scenes, a small model, a warm start, GPG, and the report; over seeds if wanted."""
