"""`submit --then`: what the line of a chain means."""

from wakestream.adapters.cli.commands.submit import _stages
from wakestream.adapters.cli.main import parser_of

CHAIN = [
    "submit", "--job-id", r"one\1", "--kind", "speak", "--in", "text=a.txt", "--param", "text=@:hello",
    "--then", "--job-id", "two", "--kind", "say", "--param", "text=@:hello", "--in", "a=@:audio", "--in", "b=x=@:y.wav",
    "--out", "video=@:b.mp4",
    "--then", "--kind", "join", "--param=text=@:bye", "--in=a=@:video", "--in", "b=@one:audio",
]  # fmt: skip


def test_only_values_of_inputs_are_references_to_the_job_before() -> None:
    first, second, third = _stages(parser_of(("submit",)).parse_args(CHAIN))
    assert first.params == second.params == ["text=@:hello"]
    assert (second.inputs, second.outputs) == ([r"a=@one\1:audio", "b=x=@:y.wav"], ["video=@:b.mp4"])
    assert (third.inputs, third.params) == (["a=@two:video", "b=@one:audio"], ["text=@:bye"])
