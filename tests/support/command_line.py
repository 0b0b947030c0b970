"""The command line, in this process."""

import pytest

from gpg_vl.cli.main import main


def run(*arguments: str) -> None:
    main([str(argument) for argument in arguments])


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake prints; checks exit code 2."""
    with pytest.raises(SystemExit) as exit:
        run(*arguments)
    assert exit.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("gpg-vl: error: "), lines
    return lines[0]
