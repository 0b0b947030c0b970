"""Commands by name, and what is printed where none is given."""

from collections.abc import Callable, Mapping, Sequence

from gpg_vl.errors import ConfigurationError, unknown

Command = Callable[[list[str]], None]
"""Takes the words behind its name; the first line of its docstring is its help."""


def dispatch(prog: str, commands: Mapping[str, Command], arguments: Sequence[str]) -> None:
    """Run the command that the first word names, or list them all.

    Raises ConfigurationError with the nearest known name if there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(prog, commands))
    elif arguments[0] not in commands:
        raise ConfigurationError(unknown("command", arguments[0], commands))
    else:
        commands[arguments[0]](list(arguments[1:]))


def _usage(prog: str, commands: Mapping[str, Command]) -> str:
    lines = [f"  {name:<11} {(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items()]
    return "\n".join(
        [
            f"usage: {prog} COMMAND [options]",
            "",
            *lines,
            "",
            f"{prog} COMMAND --help lists a command's options.",
        ]
    )
