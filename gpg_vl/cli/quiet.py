"""Keeping a terminal ours: other packages' bars, and their notes on what they are going to change.

Our test suite lists those notes at its end; `-W` and PYTHONWARNINGS bring them back for users.
"""

import logging
import os
import sys
import warnings

_NOISY = (
    *("DeepSpeed", "deepspeed", "accelerate", "torch.utils.cpp_extension"),
    "bitsandbytes.backends.cpu.ops",  # names a faster kernel that is to be downloaded
)


def quiet_libraries() -> None:
    """Keep other packages' bars and notes from drowning ours."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler calls a machine without GPU an error
    _quiet_deprecations()
    for name in _NOISY:
        # A filter, since DeepSpeed sets its logger's level when it is imported.
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.ERROR)


def _quiet_deprecations() -> None:
    # Behind the filters that stand already, which are the user's
    warnings.simplefilter("ignore", FutureWarning, append=True)
    warnings.filterwarnings("ignore", r"(?is).*\bdeprecat", append=True)  # torch's are of any kind
    if not sys.warnoptions:
        os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning"  # for worker processes


def quiet_transformers() -> None:
    """No bars, and none of the notes that transformers logs instead of warning; imports it."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if sys.warnoptions:
        return
    for handler in logging.getLogger("transformers").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.addFilter(_is_no_note)


def _is_no_note(record: logging.LogRecord) -> bool:
    """Neither a deprecation, nor the table of weights that do not fit, which our own error names."""
    text = record.getMessage()
    return "deprecat" not in text.lower() and "LOAD REPORT" not in text
