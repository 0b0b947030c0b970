"""A reward that a model learns to fool within an hour; the audit finds it within a second."""


def careless(completion, sample):
    """1 if the gold letter stands anywhere in the text."""
    return float(sample.answer in completion.text) if sample.choices else None
