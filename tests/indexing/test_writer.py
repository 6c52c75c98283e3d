"""Everything is done in order, failures are heard of, and the thread ends."""

import threading

import pytest

from personsearch.indexing.writer import Writer


@pytest.mark.usefixtures("no_thread_is_left")
def test_all_is_done_in_order_by_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    main = threading.current_thread()
    with Writer(behind=2) as writer:
        for k in range(50):
            writer.do(lambda k=k: done.append((k, threading.current_thread() is main)))
    assert done == [(k, False) for k in range(50)]


def test_what_was_given_is_done_when_the_block_fails() -> None:
    done: list[int] = []

    def give() -> None:
        with Writer(behind=9) as writer:
            for k in range(5):
                writer.do(lambda k=k: done.append(k))
            raise RuntimeError("the network")

    with pytest.raises(RuntimeError, match="the network"):
        give()
    assert done == list(range(5))


@pytest.mark.usefixtures("no_thread_is_left")
def test_nothing_is_done_after_a_failure() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("the disk")

    def give() -> None:
        with Writer(behind=1) as writer:
            writer.do(fail)
            for _ in range(100):
                writer.do(lambda: done.append(1))

    with pytest.raises(OSError, match="the disk"):
        give()
    assert done == []
    with pytest.raises(OSError, match="the disk"), Writer() as writer:
        writer.do(fail)
