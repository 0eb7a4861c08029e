"""A command of ours in this process: for what it refuses before anything starts."""

import contextlib
import io
import os
from collections.abc import Callable

import pytest
from loguru import logger

from tests.support.programs.client_scene import Ran, User
from wakestream.adapters.cli import main
from wakestream.adapters.cli.i18n import choose
from wakestream.adapters.runtime import known_secrets

Here = Callable[..., Ran]


def ran_here(*arguments: object) -> Ran:
    """Run it to its end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logger.remove()
            known_secrets.forget()
            choose("en")
    return Ran(code, *(said.buffer.getvalue().decode() for said in (out, err)))  # type: ignore[attr-defined]


def of_users(monkeypatch: pytest.MonkeyPatch) -> Here:
    """The same for a command of a user, in the user's folder and with no other settings than the user's."""

    def run(user: User, *command: str, **environment: str) -> Ran:
        with monkeypatch.context() as patch:
            patch.chdir(user.folder)
            whole = user.surroundings() | environment
            for name in os.environ.keys() - whole.keys():
                patch.delenv(name)
            for name, value in whole.items():
                patch.setenv(name, value)
            return ran_here(*command)

    return run
