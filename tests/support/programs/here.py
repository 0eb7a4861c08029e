"""A command of ours in this process: for what it refuses before anything starts."""

import pytest
from loguru import logger

from tests.support.programs.client_scene import Ran
from wakestream.adapters.cli import main


def ran_here(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run it to its end."""
    try:
        code = main.main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        logger.remove()
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)
