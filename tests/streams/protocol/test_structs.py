"""What messages, events, facts and commands are made of."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from rich.pretty import pretty_repr

from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.structs import Frozen


class Pass(Frozen, frozen=True):
    HIDDEN: ClassVar[frozenset[str]] = frozenset({"word"})
    name: str
    word: str | None = None


def test_it_cannot_be_changed_and_is_equal_to_its_like() -> None:
    one = Pass("a", "secret")
    with pytest.raises(AttributeError):
        one.name = "b"  # type: ignore[misc]
    assert one == Pass("a", "secret") != Pass("a", "other")


@pytest.mark.parametrize("written", [repr, pretty_repr], ids=["repr", "rich"])
def test_repr_shows_all_but_the_secrets(written: Callable[[object], str]) -> None:
    assert written(Pass("a", "secret")) == "Pass(name='a')"
    shown = written((m.Register(key="secret", token="secret"), f.Registering(1, m.Register(key="secret"), "secret")))
    assert "secret" not in shown
    assert "Registering(fd=1, license=None)" in shown


@pytest.mark.parametrize("kind", [*m.KNOWN, m.Unknown], ids=lambda kind: kind.__name__)
def test_every_message_is_frozen(kind: type[m.Message]) -> None:
    assert kind.__struct_config__.frozen
    assert issubclass(kind, Frozen)
