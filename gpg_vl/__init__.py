"""gpg-vl: teach vision-language models to reason with Group Policy Gradient (arXiv 2504.02546)."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gpg-vl")
except PackageNotFoundError as error:
    raise ImportError("gpg-vl is not installed: run `pip install -e .` in its folder") from error

__all__ = ["__version__"]
