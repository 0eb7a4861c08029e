"""The journal in memory."""

from wakestream.adapters.testing.memory_journal import FakeJournal


async def test_facts_are_read_back_in_order() -> None:
    journal = FakeJournal[int]()
    await journal.append([1, 2])
    await journal.append([3])
    assert journal.read() == (1, 2, 3)


async def test_beyond_its_limit_it_is_cut_down_to_the_snapshot() -> None:
    journal = FakeJournal[int](limit=3)
    journal.snapshot = lambda: [b"state"]
    for fact in range(4):
        await journal.append([fact])
    assert (journal.restore(), journal.read()) == ([b"state"], ())
    await journal.append([7])
    assert (journal.restore(), journal.read()) == ([b"state"], (7,))


async def test_a_snapshot_of_the_state_before_an_append_is_followed_by_its_facts() -> None:
    journal = FakeJournal[int](limit=0)
    journal.snapshot, journal.snapshot_includes_append = (lambda: [b"state"]), False
    await journal.append([7])
    assert (journal.restore(), journal.read()) == ([b"state"], (7,))
