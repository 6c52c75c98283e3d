"""Memories against plain loops, and several processes against one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from personsearch.distributed import gather
from personsearch.losses import memory
from personsearch.losses.memory import CircularQueue, FeatureDictionary, LookupTable

WORKER = """
import sys
import torch
import torch.distributed as dist
from personsearch.losses.oim import OnlineInstanceMatching

torch.set_num_threads(1)
rank, world, store, data, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
loss = OnlineInstanceMatching(4, 3, 5)
for step in torch.load(data, weights_only=True):
    embeddings, ids = step[rank]
    loss(embeddings, ids)
dist.barrier()
torch.save(loss.state_dict(), f"{out}{rank}.pt")
dist.destroy_process_group()
"""


def _unit(*shape: int) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape), dim=-1)


def test_lookup_moves_rows_one_sample_after_the_other() -> None:
    torch.manual_seed(0)
    table = LookupTable(3, 4, momentum=0.25)
    embeddings, ids = _unit(5, 4), torch.tensor([2, 0, 2, 2, 0])
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for x, t in zip(embeddings.double(), ids.tolist(), strict=True):
        moved = 0.25 * expected[t] + 0.75 * x
        expected[t] = moved / moved.norm()
    table.update(embeddings, ids)
    torch.testing.assert_close(table.values, expected.float())
    assert torch.equal(table.values[1], torch.zeros(4))


def test_lookup_order_matters() -> None:
    a, b = torch.eye(2)
    forth, back = LookupTable(1, 2, 0.25), LookupTable(1, 2, 0.25)
    forth.update(torch.stack([a, b]), torch.tensor([0, 0]))
    back.update(torch.stack([b, a]), torch.tensor([0, 0]))
    torch.testing.assert_close(forth.values, back.values.flip(1))
    assert forth.values[0, 1] > forth.values[0, 0]


@pytest.mark.parametrize("pushes", [[2], [3], [2, 2], [1, 1, 1, 1, 1], [7], [2, 7, 2], [0, 3, 0]])
def test_queue_holds_the_latest(pushes: list[int]) -> None:
    size = 3
    queue = CircularQueue(size, 1)
    expected, position, value = [0.0] * size, 0, 0
    for count in pushes:
        queue.push(torch.arange(value + 1, value + 1 + count).float()[:, None])
        for _ in range(count):
            value += 1
            expected[position] = float(value)
            position = (position + 1) % size
    assert queue.values[:, 0].tolist() == expected
    assert int(queue.position) == position


def test_queue_of_no_size_holds_none() -> None:
    queue = CircularQueue(0, 3)
    queue.push(torch.ones(2, 3))
    assert queue.values.shape == (0, 3)


def test_memories_are_saved_with_the_write_position() -> None:
    torch.manual_seed(0)
    queue, copy = CircularQueue(4, 2), CircularQueue(4, 2)
    queue.push(_unit(6, 2))
    copy.load_state_dict(queue.state_dict())
    assert int(copy.position) == 2
    more = _unit(3, 2)
    queue.push(more)
    copy.push(more)
    assert torch.equal(queue.values, copy.values)
    assert set(LookupTable(2, 2, 0.5).state_dict()) == {"values"}


def test_memories_take_half_precision_and_keep_no_graph() -> None:
    queue, table = CircularQueue(2, 2), LookupTable(2, 2, 0.5)
    x = torch.eye(2, dtype=torch.bfloat16, requires_grad=True)
    queue.push(x)
    table.update(x, torch.tensor([0, 1]))
    for values in (queue.values, table.values):
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert torch.equal(values, torch.eye(2))


def _run(tmp_path: Path, counts: list[list[int]]) -> None:
    """Two processes with so many samples a step; compares with one process on both."""
    from personsearch.losses.oim import OnlineInstanceMatching

    torch.manual_seed(0)
    steps = [[(_unit(n, 3), torch.randint(-1, 4, (n,))) for n in step] for step in counts]
    torch.save(steps, tmp_path / "data.pt")
    command = [sys.executable, "-c", WORKER]
    processes = [
        subprocess.Popen(
            [*command, str(rank), "2", *(str(tmp_path / n) for n in ("store", "data.pt", "state"))],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    alone = OnlineInstanceMatching(4, 3, 5)
    for step in steps:
        alone(torch.cat([x for x, _ in step]), torch.cat([i for _, i in step]))
    for rank in range(2):
        state = torch.load(tmp_path / f"state{rank}.pt", weights_only=True)
        assert state.keys() == alone.state_dict().keys()
        for name, value in alone.state_dict().items():
            assert torch.equal(state[name], value), name


def test_two_processes_hold_what_one_holds(tmp_path: Path) -> None:
    # Equal and unequal shares, one without anyone, and nobody at all.
    _run(tmp_path, [[4, 4], [2, 5], [0, 3], [6, 1], [0, 0], [3, 0]])


@pytest.mark.parametrize("pushes", [[2], [3], [2, 2], [1, 1, 1, 1, 1], [7], [2, 7, 2], [0, 3, 0]])
def test_dictionary_holds_the_latest_with_their_ids(pushes: list[int]) -> None:
    size = 3
    dictionary = FeatureDictionary(size, 1)
    expected, ids, position, value = [0.0] * size, [-2] * size, 0, 0
    for count in pushes:
        new = torch.arange(value + 1, value + 1 + count)
        dictionary.push(new.float()[:, None], new - 2)
        for _ in range(count):
            value += 1
            expected[position], ids[position] = float(value), value - 2
            position = (position + 1) % size
    assert dictionary.values[:, 0].tolist() == expected
    assert dictionary.ids.tolist() == ids
    assert int(dictionary.position) == position


def test_negatives_are_everyone_else_that_was_written() -> None:
    dictionary = FeatureDictionary(6, 2)
    assert not dictionary.negatives(torch.tensor([0, -1])).any()
    dictionary.push(torch.ones(4, 2), torch.tensor([0, -1, 1, 0]))
    assert dictionary.negatives(torch.tensor([0, 2, 1])).tolist() == [
        [False, True, True, False, False, False],
        [True, True, True, True, False, False],
        [True, True, False, True, False, False],
    ]
    assert FeatureDictionary(0, 2).negatives(torch.tensor([0])).shape == (1, 0)


def test_a_dictionary_of_no_size_holds_none() -> None:
    dictionary = FeatureDictionary(0, 3)
    dictionary.push(torch.ones(2, 3), torch.tensor([0, 1]))
    assert dictionary.values.shape == (0, 3)


def test_dictionary_is_saved_with_the_write_position_and_keeps_no_graph() -> None:
    torch.manual_seed(0)
    dictionary, copy = FeatureDictionary(4, 2), FeatureDictionary(4, 2)
    dictionary.push(_unit(6, 2).bfloat16().requires_grad_(), torch.arange(6))
    assert dictionary.values.dtype == torch.float32
    assert not dictionary.values.requires_grad
    copy.load_state_dict(dictionary.state_dict())
    assert int(copy.position) == 2
    more = _unit(3, 2)
    for one in (dictionary, copy):
        one.push(more, torch.tensor([-1, 7, 8]))
    assert torch.equal(dictionary.values, copy.values)
    assert copy.ids.tolist() == dictionary.ids.tolist() == [8, 5, -1, 7]


def test_gather_is_still_found_at_its_former_place() -> None:
    with pytest.warns(DeprecationWarning, match="has moved to personsearch.distributed"):
        assert memory.gather is gather  # type: ignore[attr-defined]
