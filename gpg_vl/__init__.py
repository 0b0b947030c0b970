"""gpg-vl: teach vision-language models to reason with Group Policy Gradient (arXiv 2504.02546).

Everything here is loaded when it is first used: `import gpg_vl` alone imports neither torch nor transformers.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpg_vl.evaluation.model import Answers as Answers
    from gpg_vl.evaluation.model import Model as Model
    from gpg_vl.evaluation.model import load as load
    from gpg_vl.interface.data import prepare as prepare
    from gpg_vl.interface.data import read as read
    from gpg_vl.interface.evaluation import Comparison as Comparison
    from gpg_vl.interface.evaluation import Evaluation as Evaluation
    from gpg_vl.interface.evaluation import compare as compare
    from gpg_vl.interface.evaluation import evaluate as evaluate
    from gpg_vl.interface.rewards import score as score
    from gpg_vl.interface.run import Run as Run
    from gpg_vl.interface.training import sft as sft
    from gpg_vl.interface.training import steps as steps
    from gpg_vl.interface.training import train as train
    from gpg_vl.registry import reward as reward
    from gpg_vl.training.callbacks import Callback as Callback
    from gpg_vl.training.callbacks import Step as Step
    from gpg_vl.types import Completion as Completion
    from gpg_vl.types import Sample as Sample

try:
    __version__ = version("gpg-vl")
except PackageNotFoundError as error:
    raise ImportError("gpg-vl is not installed: run `pip install -e .` in its folder") from error

_PLACES = {
    "evaluation.model": ("Answers", "Model", "load"),
    "interface.data": ("prepare", "read"),
    "interface.evaluation": ("Comparison", "Evaluation", "compare", "evaluate"),
    "interface.rewards": ("score",),
    "interface.run": ("Run",),
    "interface.training": ("sft", "steps", "train"),
    "registry": ("reward",),
    "training.callbacks": ("Callback", "Step"),
    "types": ("Completion", "Sample"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}
__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(import_module(f"gpg_vl.{_MODULES[name]}"), name)
    elif name.endswith(("Trainer", "Config")) and name in (
        habits := import_module("gpg_vl.interface.habits").HABITS
    ):
        return habits[name]
    else:
        raise AttributeError(f"module 'gpg_vl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
