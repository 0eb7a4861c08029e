"""Secret values beside a journal: marks stand in their place, and they go when no work needs them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.operators.model.errors import WrongInput


def test_equal_values_have_equal_marks_also_after_a_restart_and_other_installations_have_others(tmp_path: Path) -> None:
    values = SecretValues(tmp_path / "values.json")
    hidden = values.hide({"token": "xyz", "pin": 7, "steps": 5}, {"token", "pin"})
    assert "xyz" not in str(hidden)
    assert (hidden["steps"], hidden["token"] == hidden["pin"]) == (5, False)
    again = SecretValues(tmp_path / "values.json")
    assert again.shown(hidden) == {"token": "xyz", "pin": 7, "steps": 5}
    assert again.hide(again.shown(hidden), {"token", "pin"}) == again.hide(hidden, {"token", "pin"}) == hidden
    assert SecretValues(tmp_path / "other.json").hide({"token": "xyz"}, {"token"})["token"] != hidden["token"]


def test_a_value_is_on_the_disk_while_it_is_in_use_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    values = SecretValues(path)
    one, other = (values.hide({"token": text}, {"token"}) for text in ("first secret", "second secret"))
    assert path.stat().st_mode & 0o77 == 0
    values.keep([one])
    assert b"first secret" in path.read_bytes()
    assert b"second secret" not in path.read_bytes()
    values.keep([])
    assert [*tmp_path.iterdir()] == [path]
    assert b'secret"' not in path.read_bytes()
    with pytest.raises(WrongInput, match=r"params\.token: a secret value is not kept after the end of its job"):
        values.shown(other)


def test_jobs_are_not_looked_through_while_there_is_no_secret() -> None:
    jobs: Iterator[dict[str, Any]] = iter([{"steps": 5}])
    SecretValues().keep(jobs)
    assert next(jobs) == {"steps": 5}
