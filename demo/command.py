"""The command `gpg-vl demo`: parse, build, serve."""

from dataclasses import fields

from gpg_vl.cli.before import check_folder
from gpg_vl.cli.quiet import quiet_transformers
from gpg_vl.data.manifest import check_prepared
from gpg_vl.model.adapter_files import check_model
from gpg_vl.options import base_parser

from .service.settings import DemoSettings

# Heavy imports (gradio, torch) stand inside the command: `gpg-vl demo --help` answers at once.


def demo(arguments: list[str]) -> None:
    """Show base against trained in a browser: answers, evaluations, rollouts and curves."""
    parser = base_parser("gpg-vl demo", demo.__doc__ or "")
    parser.add_class_arguments(DemoSettings, None, skip={"data"})
    parser.add_argument(
        "--data",
        nargs="*",
        default=[],
        metavar="PREPARED",
        help="folders written by `gpg-vl prepare`, to pick questions from",
    )
    given = parser.parse_args(arguments)
    values = {field.name: given[field.name] for field in fields(DemoSettings)}
    settings = DemoSettings(**{**values, "data": tuple(given.data)})
    for path in filter(None, (settings.base, settings.trained)):
        check_model(path)
    for folder in settings.data:
        check_prepared(folder)
    if settings.run is not None:
        check_folder(settings.run, "run folder")
    from .app import serve

    quiet_transformers()
    serve(settings)
