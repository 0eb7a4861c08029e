"""The queue in which jobs are moved, beside a plain list."""

from __future__ import annotations

from random import Random

import pytest

from wakestream.streams.outbox.turn_queue import TurnQueue


@pytest.mark.parametrize("seed", range(20))
def test_after_random_moves_it_has_the_order_of_a_list(seed: int) -> None:
    random, queue, plain = Random(seed), TurnQueue(), list[str]()
    for _ in range(200):
        job, before = random.choice("abcdefgh"), random.choice(["", *"abcdefgh"])
        if random.random() < 0.2:
            queue.remove(job)
            plain = [each for each in plain if each != job]
        elif job != before:
            queue.put(job, before)
            plain = [each for each in plain if each != job]
            plain.insert(plain.index(before) if before in plain else len(plain), job)
        assert (list(queue), list(reversed(queue)), len(queue)) == (plain, plain[::-1], len(plain))
        assert [each for each in "abcdefgh" if each in queue] == sorted(plain)
    assert "" not in queue
    assert all(list(queue.behind(job)) == plain[at + 1 :] for at, job in enumerate(plain))


def test_a_job_before_itself_stays_where_it_is() -> None:
    queue, other = TurnQueue(), TurnQueue()
    for job in "abc":
        queue.put(job)
        other.put(job)
    queue.put("b", "b")
    assert queue == other
    queue.put("b")
    assert queue != other


class Counted(dict[str, str]):
    """Counts the reads and writes."""

    count = 0

    def __getitem__(self, key: str) -> str:
        self.count += 1
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: str) -> None:
        self.count += 1
        super().__setitem__(key, value)


@pytest.mark.parametrize("jobs", [10, 1000])
def test_a_move_takes_the_same_steps_however_many_jobs_there_are(jobs: int) -> None:
    queue = TurnQueue()
    for n in range(jobs):
        queue.put(f"job-{n}")
    queue._after, queue._before = after, before = Counted(queue._after), Counted(queue._before)
    queue.put("job-2", "job-7")
    assert after.count + before.count < 10
