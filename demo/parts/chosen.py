"""The two evaluations that Overview and Benchmark show: one choice for both tabs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gpg_vl.errors import UserError

from ..links import Link
from ..service.evaluations import Evaluations, title
from .controls import hidden

_TABS = ("overview", "benchmark")
"""Whose links name evaluations."""


@dataclass(frozen=True)
class Chosen:
    """The two lists, which `Benchmark` renders, and what tells that the run has written."""

    evaluations: Evaluations
    base: gr.Dropdown
    trained: gr.Dropdown
    stamp: gr.Textbox
    """Hidden; changes whenever an evaluation comes or goes."""

    @property
    def names(self) -> list[Any]:
        """What names the two; each is None until one is chosen, which means the first and the last."""
        return [self.base, self.trained]

    def linked(self, link: Link) -> list[gr.Dropdown]:
        """The lists with the two that a link names, the first and the last where it names none.

        Raises ConfigurationError for a name that is not there.
        """
        return self.updates(*self._of(link))

    def named(self, base: object, trained: object, query: Mapping[str, str]) -> tuple[object, object]:
        """The two of the lists; while a page opens and they are empty, those that its link names.

        What paints first would else choose others than the link, which may come later.
        """
        if base is None and trained is None:
            try:
                link = Link.read(query)
                if link.tab in _TABS:
                    return self._of(link)
            except UserError:  # told by what opens the link
                pass
        return base, trained

    def _of(self, link: Link) -> tuple[str | None, str | None]:
        names = self.evaluations.files()
        return link.choice("base", names), link.choice("trained", names)

    def updates(self, base: object, trained: object) -> list[gr.Dropdown]:
        """The lists as the folder is now; an evaluation that is gone is not chosen any more."""
        names = list(self.evaluations.files())
        choices = [(title(name), name) for name in names]
        return [
            gr.Dropdown(choices, value=name if name in names else None)
            for name in self.evaluations.pair(base, trained)
        ]


def choose_evaluations(run: str | None) -> Chosen:
    """Build the parts; the lists are rendered where they are to stand."""
    base = gr.Dropdown([], value=None, label="Base: evaluation A", render=False)
    trained = gr.Dropdown([], value=None, label="Trained: evaluation B", render=False)
    stamp = hidden()
    return Chosen(Evaluations.of(run), base, trained, stamp)
