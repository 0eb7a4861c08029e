"""What a worker says of its engine's own kinds."""

from tests.support.log_lines import logged
from wakestream.adapters.worker import program
from wakestream.operators.model.engine import Kind, Slot


def test_the_log_names_what_no_file_of_an_engine_can_be() -> None:
    with logged("ERROR") as said:
        turn = Kind("turn", (Slot("mesh", ("3d", ".glb")),), (Slot("mesh", (".GLB",)),))
        program._warn([Kind("fine", (), (Slot("image", ("image", ".png")),)), turn])
    (line,) = said
    assert line.startswith("the engine describes a kind wrongly: kind turn: mesh cannot accept '3d'; use video, audio")
