"""Keep the items of some types, and give the result their type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from reactivex import Observable

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
Items = Observable[Any]


@overload
def of_type(first: type[A], /) -> Callable[[Items], Observable[A]]: ...
@overload
def of_type(first: type[A], second: type[B], /) -> Callable[[Items], Observable[A | B]]: ...
@overload
def of_type(first: type[A], second: type[B], third: type[C], /) -> Callable[[Items], Observable[A | B | C]]: ...
def of_type(*kinds: type[Any]) -> Callable[[Items], Items]:
    """Keep the items that are instances of one of up to three classes.

    Example:
        >>> events.pipe(of_type(Running))

    Args:
        kinds: The classes.

    Returns:
        An operator function.
    """
    return lambda source: source.filter(lambda item: isinstance(item, kinds))
