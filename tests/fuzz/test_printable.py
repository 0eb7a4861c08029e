"""Whatever a text has in it, it can be shown; and JSON of it says the same as before."""

import json
import unicodedata

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.hostile_values import TEXTS
from wakestream.adapters.cli.i18n import choose, t
from wakestream.adapters.runtime.printing import json_text
from wakestream.streams.protocol.printable import LONGEST_NAME, is_name, printable

PARTS = (
    "\x1b[", "\x1b]", "\x1b", "31m", "0;title", "\x07", "\x9b", "\x9d", "\r", "\n", "\t", "\x85", "\u2028", "\u202e",
    "\u2066", "\u200f", "\u200d", "\u200c", "\ufeff", "\U0001f3f4", "\U000e0067", "\U000e007f", "\udc80", "a",
    "中", " ",
)  # fmt: skip
ODD = st.one_of(st.sampled_from(TEXTS), st.text(), st.lists(st.sampled_from(PARTS)).map("".join))
VISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of what is no letter; some of Cf are seen (signs before a number), or join letters and emoji."""


def stray(text: str) -> list[str]:
    """What in a text is not to be seen, and stands where it joins nothing."""
    found = []
    for before, char in zip(("", *text), text, strict=False):
        joins = char in "\u200b\u200c\u200d" and not before.isascii()
        flags = "\U000e0000" <= char <= "\U000e007f" and not before.isascii()
        number = unicodedata.bidirectional(char) in ("AN", "AL") or "\U00011000" <= char <= "\U0001343f"
        if unicodedata.category(char) in VISIBLE and not (joins or flags or number):
            found.append(f"U+{ord(char):04X}")
    return found


@BOUNDED
@given(ODD)
def test_no_character_that_steers_is_left_in_a_text_nor_in_a_layout(text: str) -> None:
    assert stray(printable(text)) == []
    assert stray(printable(text, layout=True).replace("\n", "").replace("\t", "")) == []
    assert printable(printable(text)) == printable(text)


@BOUNDED
@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_letters_of_all_languages_stay(text: str) -> None:
    assert printable(text) == text


@BOUNDED
@given(ODD)
def test_json_is_free_of_them_and_says_all(text: str) -> None:
    shown = json_text({"text": text})
    assert stray(shown) == []
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert orjson.loads(shown) == {"text": text} == json.loads(shown)
    assert json.loads(shown).keys() == {"text"}


@BOUNDED
@given(ODD)
def test_what_fills_a_blank_of_a_sentence_is_clean_in_each_language(text: str) -> None:
    for language in ("zh", "en"):
        choose(language)
        assert stray(t("failed", why=text, hint=text)) == []


@BOUNDED
@given(ODD)
def test_a_name_is_all_there_to_see(text: str) -> None:
    assert is_name(text) == (len(text) <= LONGEST_NAME and text == printable(text).strip() != "")
