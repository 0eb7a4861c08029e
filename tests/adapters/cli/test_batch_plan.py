"""The table of results that `submit --each` writes."""

from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.cli.batch_plan import Item, Plan
from wakestream.adapters.daemon.rows import Row


@pytest.mark.parametrize("words", ['=HYPERLINK("http://evil.example/")', "+1", "-1", "@sum", "\t=1"])
def test_the_words_of_an_engine_are_no_formula_in_a_spreadsheet(words: str) -> None:
    nothing: Any = None
    item = Item(Row(2, {"name": "a"}), nothing, nothing, said={"state": "failed", "error": words})
    last = Plan("rows", ["name"], [item], Path("rows.results.csv")).write().decode("utf-8-sig").splitlines()[-1]
    assert last.replace('""', '"').strip('"').endswith(f"'{words}"), last
