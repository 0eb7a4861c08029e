"""What providers of machines in an account share, whatever library calls the API: names, words for states, errors.

An answer that no table knows is `Transient`, so that it is tried again later, and its code is logged.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, TypeVar

from loguru import logger

from wakestream.adapters.power.config import PowerConfig, Provider, id_of, plain_text
from wakestream.operators.model.errors import Gone, PowerError, Transient
from wakestream.operators.model.ports import PowerState, Reading

Pattern = tuple[str, type[PowerError]]
"""A regular expression (in any case) that is searched in a provider's code and message, and what these then mean."""

R = TypeVar("R")


class AccountPower(Provider):
    """Base of a provider for one machine of an account, which `--machine` names by its id or its name.

    Attributes:
        name: The name that `--power` takes.
        id_form: A regular expression for ids of machines; a `--machine` of another form is looked up as a name. A
            machine that was deleted and made again under its name is found under its new id.
        states: The provider's words for states, in lower case. Other words are `unknown`.
        errors: What codes and messages mean, the first match counts.

    Args:
        config: The configuration.
    """

    name: ClassVar[str]
    id_form: ClassVar[str] = r".+"
    states: ClassVar[Mapping[str, PowerState]] = {}
    errors: ClassVar[Sequence[Pattern]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("start", "stop", "inspect"):
            if name in vars(cls):
                setattr(cls, name, _found_again(vars(cls)[name]))

    def __init__(self, config: PowerConfig) -> None:
        self._machine = config.needs_machine(self.name)
        self._id = self._machine if self._machine and re.fullmatch(self.id_form, self._machine) else None
        self._named, self._limit = self._id is None, config.timeout
        self._secrets: list[str] = []
        self._unknown: set[str] = set()

    async def machine(self) -> str:
        """The machine's id.

        Raises:
            PowerError: No machine has this name, or several have.
        """
        if self._id is None:
            self._id = id_of(self._machine, await self.machines())
        return self._id

    async def _has_another_id(self) -> bool:
        """Whether another machine has the name by now; that one counts from now on."""
        if not self._named or self._id is None:
            return False
        there = [machine for machine in await self.machines() if machine.id != self._id]
        try:
            new = id_of(self._machine, there)
        except PowerError:
            return False
        logger.warning("{}: the machine {} has the id {} now; it was {}", self.name, self._machine, new, self._id)
        self._id = new
        return True

    def state(self, word: str) -> PowerState:
        """What a provider's word for a state means. An unknown word is logged once."""
        state = self.states.get(word.lower())
        if state is None:
            self.note_unknown(f"the state {self.plain(word)!r}")
            return "unknown"
        return state

    def meaning(self, text: str) -> type[PowerError] | None:
        """The class of error that a provider's code and message mean, by the table `errors`."""
        return next((kind for pattern, kind in self.errors if re.search(pattern, text, re.IGNORECASE)), None)

    def error(self, code: object, message: str) -> PowerError:
        """The error that a provider's code and message mean.

        Args:
            code: The provider's code.
            message: Its message.

        Returns:
            The error, `Transient` for an unknown one.
        """
        text = f"{code}: {message}" if message else str(code)
        kind = self.meaning(text)
        if kind is None:
            self.note_unknown(f"the code {self.plain(text)}")
        return (kind or Transient)(f"{self.name}: {self.plain(text)}")

    def note_unknown(self, what: str) -> None:
        """Log an answer that no table knows, once."""
        if what not in self._unknown and len(self._unknown) < 100:
            self._unknown.add(what)
            logger.warning("{}: {} is not known to wakestream; please report it", self.name, what)

    def plain(self, text: str) -> str:
        """A provider's message without the credentials, on one line, and not too long."""
        return plain_text(text, self._secrets)


def _found_again(call: Callable[[Any], Awaitable[R]]) -> Callable[[AccountPower], Awaitable[R]]:
    """A call that is repeated with the new id, where the machine of this name has another one by now."""

    @wraps(call)
    async def repeated(self: AccountPower) -> R:
        try:
            returned = await call(self)
        except Gone:
            if await self._has_another_id():
                return await call(self)
            raise
        deleted = isinstance(returned, Reading) and returned.state == "terminated"
        return await call(self) if deleted and await self._has_another_id() else returned

    return repeated
