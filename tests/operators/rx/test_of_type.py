"""Items of some kinds."""

from typing import Any

from reactivex.subject import Subject

from wakestream.operators import Done, Failed, Note, Running, of_type


def test_only_instances_of_the_classes_pass_and_so_do_errors() -> None:
    source, heard = Subject[Any](), list[Any]()
    source.pipe(of_type(Running, Note)).subscribe(heard.append, lambda error: heard.append(str(error)))
    for item in (Running(1), Failed("no"), Note("a"), None):
        source.on_next(item)
    source.on_error(ValueError("broken"))
    assert heard == [Running(1), Note("a"), "broken"]


def test_the_end_passes() -> None:
    source, heard = Subject[Any](), list[Any]()
    source.pipe(of_type(Done)).subscribe(heard.append, on_completed=lambda: heard.append("|"))
    source.on_completed()
    assert heard == ["|"]
