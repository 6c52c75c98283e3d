"""A thread that does some work again and again."""

import logging
import threading

import pytest

from personsearch.errors import StoreError
from personsearch.periodic import Periodic


class Counting(Periodic):
    def __init__(self, every: float, fails: int = 0) -> None:
        super().__init__("counting", every)
        self.runs, self.fails = 0, fails
        self.first, self.third = threading.Event(), threading.Event()

    def once(self) -> None:
        self.runs += 1
        self.first.set()
        if self.runs >= 3:
            self.third.set()
        if self.runs <= self.fails:
            raise StoreError("the store is busy")


def test_it_runs_again_and_again_until_it_is_stopped() -> None:
    with Counting(0.001) as counting:
        assert counting.third.wait(30)
    runs = counting.runs
    assert not counting._thread.is_alive()
    assert counting.runs == runs


def test_the_first_run_waits_unless_it_begins_at_once() -> None:
    later = Counting(3600.0)
    later.start()
    later.stop()
    assert later.runs == 0
    soon = Counting(3600.0)
    soon.at_once = True
    soon.start()
    assert soon.first.wait(30)
    soon.stop(30)
    assert soon.runs == 1


def test_what_fails_is_a_warning_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Counting(0.001, fails=2) as counting:
        assert counting.third.wait(30)
    assert [record.getMessage() for record in caplog.records] == ["counting: the store is busy"] * 2
