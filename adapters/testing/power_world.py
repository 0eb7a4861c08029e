"""What a test of a power provider needs in place of the provider's API: a world with one machine, and its faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import pytest

from wakestream.adapters.power.config import Provider
from wakestream.operators.model.ports import PowerState

Fault = Literal[
    "slow", "down", "denied", "busy", "broken", "garbage", "strange", "missing", "lags",
    "start_denied", "start_busy", "start_broken", "start_lost", "start_unknown", "start_ignored", "start_slow",
    "stop_denied", "stop_busy", "stop_broken", "no_capacity", "quota",
]  # fmt: skip
"""What is wrong with the API at present: `PowerWorld.fault`.

`slow`: no answer. `down`: the connection is closed. `denied`: the credentials are refused. `busy`: too many requests,
`Retry-After: 1`. `broken`: an error of the server. `garbage`: an answer that the API does not have. `strange`: JSON of
another shape. `missing`: the machine is not found for a while. `lags`: what the API describes is as before the last
start or stop.

With `start_` or `stop_` only these calls are meant: `start_broken` has no effect, `start_lost` is an error although the
machine starts, `start_unknown` an error code that no document knows, `start_ignored` an accepted start without effect,
`start_slow` one that is accepted and stays in an intermediate state. `no_capacity` and `quota`: the provider's own
refusals of a start.
"""

CALL_TIMEOUT = 5.0


class PowerWorld(ABC):
    """A stand-in for a provider with one machine, which is off at first.

    Attributes:
        starts: How often the provider accepted a start, with or without effect.
        calls: How often it was asked to start, accepted or not.
        stops: How often it accepted a stop.
        fault: What is wrong with the API at present.
        faults: The faults that this stand-in has; cases that need another one are skipped.
        addresses: Whether readings have an address.
        shows_stopping: Whether the provider has a state between running and stopped.
        secrets: The credentials, which no message may show.
        name: The machine's name, None if the provider has no names.
        call_timeout: Seconds that a call may take.
        within: Seconds that one case may take, on a busy machine.
    """

    faults: ClassVar[frozenset[Fault]] = frozenset()
    addresses: ClassVar[bool] = False
    shows_stopping: ClassVar[bool] = True
    call_timeout: ClassVar[float] = CALL_TIMEOUT
    within: ClassVar[float] = 30.0
    starts: int = 0
    calls: int = 0
    stops: int = 0
    fault: Fault | None = None
    secrets: tuple[str, ...] = ()
    name: str | None = None

    @abstractmethod
    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        """Make a provider object, as the monitor does at its start.

        Args:
            machine: The id or name of the machine; None for its id.
            timeout: Seconds that a call may take.
        """

    @abstractmethod
    async def become(self, state: PowerState) -> None:
        """Put the machine into this state, as if another person had done it in the provider's web console."""

    @abstractmethod
    async def finish(self) -> None:
        """Let a start or stop that has begun come to its end."""

    async def move(self) -> None:
        """Give the machine another address."""
        pytest.skip("this stand-in has no addresses")

    async def replace(self) -> None:
        """Delete the machine, and make it again under its name, with another id."""
        pytest.skip("this stand-in cannot make its machine again")

    async def skew(self, seconds: float) -> None:
        """Move the provider's clock."""
        pytest.skip("this stand-in has no clock")

    async def without_gpu(self) -> None:
        """Let the next start bring up the machine without its GPU."""
        pytest.skip("this provider never starts a machine without its GPU")

    async def unknown_word(self) -> None:
        """Report a state that no document knows."""
        pytest.skip("this provider has no words for states")

    def break_with(self, fault: Fault) -> None:
        """Set the fault, or skip the case if this stand-in does not have it."""
        if fault not in self.faults:
            pytest.skip(f"this provider's stand-in has no fault {fault!r}")
        self.fault = fault
