"""What messages, events, facts and commands are made of."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from rich.pretty import pretty_repr

from wakestream.operators.model.errors import WrongInput
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.structs import Frozen, read


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


@pytest.mark.parametrize("kind", [*wire.KNOWN, m.Unknown], ids=lambda kind: kind.__name__)
def test_every_message_is_frozen(kind: type[m.Message]) -> None:
    assert kind.__struct_config__.frozen
    assert issubclass(kind, Frozen)


class Sent(msgspec.Struct):
    hash: str
    size: Annotated[int, msgspec.Meta(ge=1, description="some bytes")] = 1


class Order(msgspec.Struct):
    kind: Annotated[str, msgspec.Meta(min_length=1, description="the name of a kind")]
    files: tuple[Sent, ...] = ()
    mode: Literal["fail", "number"] = "fail"
    count: int | None = None
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""


@pytest.mark.parametrize(
    ("plain", "field", "sentence"),
    [
        ({}, "kind", '"kind" is missing: send the name of a kind'),
        ({"kind": 5}, "kind", '"kind" must be the name of a kind'),
        ({"kind": "a", "files": "x"}, "files", '"files" must be a list, each an object'),
        ({"kind": "a", "files": [{"hash": 1}]}, "files.hash", '"files.hash" must be a string'),
        ({"kind": "a", "files": [{}]}, "files.hash", '"files.hash" is missing, a string is needed'),
        (
            {"kind": "a", "files": [{"hash": "", "size": 0}]},
            "files.size",
            '"files.size" must be some bytes',
        ),
        ({"kind": "a", "mode": "x"}, "mode", '"mode" must be one of fail, number'),
        ({"kind": "a", "count": 1.5}, "count", '"count" must be a whole number'),
        ({"kind": "a", "name": "long"}, "name", '"name" must have 3 characters at most'),
    ],
)
def test_a_wrong_field_is_named_with_what_it_must_be(plain: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(WrongInput) as refused:
        read(Order, plain)
    assert (refused.value.field, str(refused.value)) == (field, sentence)
