"""The journal in memory."""

from wakestream.adapters.testing.memory_journal import FakeJournal


async def test_facts_are_read_back_in_order() -> None:
    journal = FakeJournal[int]()
    await journal.append([1, 2])
    await journal.append([3])
    assert journal.read() == (1, 2, 3)


async def test_beyond_its_limit_it_is_cut_down_to_the_snapshot() -> None:
    journal = FakeJournal[int](limit=3)
    journal.snapshot = lambda: [100]
    for fact in range(4):
        await journal.append([fact])
    assert journal.read() == (100,)
    await journal.append([7])
    assert journal.read() == (100, 7)


async def test_a_snapshot_as_long_as_the_limit_does_not_cut_at_every_append() -> None:
    journal = FakeJournal[int](limit=3)
    cuts = []
    journal.snapshot = lambda: cuts.append(1) or list(range(4))  # type: ignore[func-returns-value]
    for fact in range(8):
        await journal.append([fact])
    assert len(cuts) == 1


async def test_by_default_it_holds_no_more_than_some_hundred_facts_beyond_the_snapshot() -> None:
    journal = FakeJournal[int]()
    journal.snapshot = lambda: [0]
    for fact in range(10_000):
        await journal.append([fact])
    assert len(journal.read()) <= 257
