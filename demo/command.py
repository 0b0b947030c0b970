"""The command `gpg-vl demo`: parse, build, serve."""

from dataclasses import fields

from gpg_vl.cli.before import check_folder
from gpg_vl.cli.quiet import quiet_transformers
from gpg_vl.data.manifest import check_prepared
from gpg_vl.model.adapter_files import check_model
from gpg_vl.options import base_parser

from .service.rewards import operator_rewards
from .service.settings import DemoSettings

_SEVERAL = {
    "data": ("PREPARED", "folders written by `gpg-vl prepare`, to pick questions from"),
    "host_name": ("NAME", "names under which browsers reach it, as demo.example.org or *.example.org"),
    "allow_origin": ("URL", "other web sites that may use it, as https://example.org"),
    "trusted_proxy": ("ADDRESS", "addresses or networks of proxies whose X-Forwarded headers are believed"),
}
"""Options that take any number of values: how one is called, and its help."""

# Heavy imports (gradio, torch) stand inside the command: `gpg-vl demo --help` answers at once.


def demo(arguments: list[str]) -> None:
    """Show base against trained in a browser: answers, evaluations, rollouts and curves."""
    parser = base_parser("gpg-vl demo", demo.__doc__ or "")
    parser.add_class_arguments(DemoSettings, None, skip={*_SEVERAL, "reward"})
    for name, (word, text) in _SEVERAL.items():
        default = [*getattr(DemoSettings, name)]
        parser.add_argument(f"--{name}", nargs="*", default=default, metavar=word, help=text)
    parser.add_argument(
        "--reward",
        action="append",
        default=[],
        metavar="REWARD",
        help="a further reward to score answers by, such as my_rewards.py:brief; may be repeated",
    )
    given = parser.parse_args(arguments)
    values = {field.name: given[field.name] for field in fields(DemoSettings)}
    several = {name: tuple(given[name]) for name in (*_SEVERAL, "reward")}
    settings = DemoSettings(**{**values, **several})
    for path in filter(None, (settings.base, settings.trained)):
        check_model(path)
    for folder in settings.data:
        check_prepared(folder)
    if settings.run is not None:
        check_folder(settings.run, "run folder")
    operator_rewards(settings.reward)
    from .app import serve

    quiet_transformers()
    serve(settings)
