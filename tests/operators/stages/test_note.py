"""What a pipeline says, as a stage."""

from typing import Any

from wakestream.operators import Note, note, of, then


def test_a_note_is_emitted_and_then_the_next_stage_starts() -> None:
    heard: list[Any] = []
    said = of(1).pipe(then(lambda _: note("half way", {"percent": 50}), lambda said: of(said.text)))
    said.subscribe(heard.append, on_completed=lambda: heard.append("|"))
    assert heard == [1, Note("half way", {"percent": 50}), "half way", "|"]
