"""Fixtures of tests in several folders, and one thread for each process of the tests.

Several processes run tests at once. If each used all processors, they would wait for one another
in busy loops; with one thread each, sums also have one order, so figures are the same anywhere.
"""

import os
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # before torch, NumPy and faiss are loaded

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order: the same in every process, and as in stored results."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
