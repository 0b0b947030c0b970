"""The command that lists what models can be trained."""

from gpg_vl.errors import GpgError
from gpg_vl.options import base_parser
from gpg_vl.registry import origin
from gpg_vl.tables import markdown_table


def list_families(arguments: list[str]) -> None:
    """List the families of models that can be trained, and how: packed rows, images, boxes, video."""
    base_parser("gpg-vl families", list_families.__doc__ or "").parse_args(arguments)
    from gpg_vl.model.families import families  # torch

    header = ("model_type", "answers of a group", "images", "boxes in answers", "video", "package (place)")
    rows = []
    for name, points in sorted(families.announced().items()):
        try:
            family = families.get(name)
        except (GpgError, ImportError, AttributeError) as error:  # somebody else's
            rows.append((name, f"cannot be loaded: {error}", "", "", "", origin(points[0])))
            continue
        rows.append(
            (
                name,
                "forked states" if family.recurrent else "one row, a mask",
                family.reader.manner if family.reader else "none",
                _BOXES[family.box_space] if family.reader else "",
                "yes" if family.video else "no",
                origin(points[0]),
            )
        )
    print(markdown_table(header, rows))


_BOXES = {"grid": "0 to 1000", "resized": "pixels as the model sees it", "image": "pixels as stored"}
