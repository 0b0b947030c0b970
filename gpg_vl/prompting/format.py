"""What prompts look like for a family of models: what its adapter in `gpg_vl/model/families` says of text."""

from typing import ClassVar

from gpg_vl.prompting.image_reader import ImageReader
from gpg_vl.prompting.prompts import BoxSpace


class PromptFormat:
    """A family's prompts; these are a text model's."""

    reader: ClassVar[type[ImageReader] | None] = None
    """What reads images; None for a text model."""
    placeholder: ClassVar[str] = ""
    """What stands for an image in a prompt without chat template."""
    image_markup: ClassVar[tuple[str, ...]] = ()
    """Tokens that images are written with: never sampled, and refused in questions."""
    box_space: ClassVar[BoxSpace] = "image"
    """The space of boxes in answers that the family was pretrained with."""

    @property
    def takes_images(self) -> bool:
        """Whether it is a vision-language family."""
        return self.reader is not None
