"""A dict that forgets the keys that were set longest ago."""

from wakestream.adapters.runtime.recent import Recent


def test_the_key_that_was_set_longest_ago_is_removed_first() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"] = recent["b"] = 1
    recent["a"] = 2
    recent["c"] = 3
    assert dict(recent) == {"a": 2, "c": 3}


def test_a_default_is_stored_and_counts_as_set() -> None:
    recent: Recent[str, list[int]] = Recent(1)
    recent.setdefault("a", []).append(1)
    assert recent.setdefault("a", []) == [1]
    recent.setdefault("b", [])
    assert list(recent) == ["b"]
