"""Short memory: bounded in number, room and time, and to its owner."""

import numpy as np

from personsearch.types import Detections
from personsearch.web.uploads import ShortMemory, Upload


def upload(room: int = 10, owner: str = "a") -> Upload:
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    return Upload(owner, b"x" * room, (1, 1), nobody)


def test_only_its_owner_has_it_back() -> None:
    memory: ShortMemory[Upload] = ShortMemory()
    kept = upload()
    token = memory.put(kept)
    assert memory.get(token, "a") is kept
    assert memory.get(token, "b") is None
    assert not memory.drop(token, "b")
    assert memory.drop(token, "a")
    assert memory.get(token, "a") is None
    assert memory.get("nonsense", "a") is None


def test_the_oldest_goes_first() -> None:
    memory: ShortMemory[Upload] = ShortMemory(count=3, room=100)
    first, second, third = (memory.put(upload()) for _ in range(3))
    assert memory.get(first, "a") is not None  # used, so that the second is the oldest
    memory.put(upload())
    assert memory.get(second, "a") is None
    assert memory.get(first, "a") is not None
    memory.put(upload(90))
    assert memory.get(third, "a") is None
    assert len(memory) == 2


def test_nobody_loses_theirs_to_others() -> None:
    for size in (1, 40):
        memory: ShortMemory[Upload] = ShortMemory(count=4, room=100)
        mine = memory.put(upload(10, "b"))
        others = [memory.put(upload(size, "a")) for _ in range(9)]
        assert memory.get(mine, "b") is not None
        assert memory.get(others[-1], "a") is not None
        assert memory.get(others[0], "a") is None
    # What is put is there, whoever takes most.
    memory = ShortMemory(count=2, room=100)
    tokens = [memory.put(upload(room, str(room))) for room in (1, 2, 90)]
    assert memory.get(tokens[-1], "90") is not None


def test_time_passes() -> None:
    now = 0.0
    memory: ShortMemory[Upload] = ShortMemory(seconds=10, clock=lambda: now)
    token = memory.put(upload())
    now = 9.0
    assert memory.get(token, "a") is not None
    now = 18.0
    assert memory.get(token, "a") is not None
    now = 30.0
    assert memory.get(token, "a") is None
    assert len(memory) == 0
