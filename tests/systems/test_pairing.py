"""The re-identification losses of I-Net and DC-I-Net together: order, weights, memories, edges."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from personsearch.errors import ModelError
from personsearch.losses.c2hep import class_center_hep_loss
from personsearch.losses.contrastive import contrastive_loss
from personsearch.losses.hep import hard_example_priority_loss, select_priority_classes
from personsearch.losses.mining import batch_hard
from personsearch.losses.olp import online_pairing_loss
from personsearch.losses.triplet import triplet_loss
from personsearch.systems.pairing import PairingLosses, PairingSettings

PAIRING = get_args(get_type_hints(PairingSettings)["pairing_loss"])
IDENTITY = get_args(get_type_hints(PairingSettings)["identity_loss"])
NONE = {"pairing_loss": "none", "identity_loss": "none"}
IDS = torch.tensor([0, 2, -1, 0, 2, 3, -1])
PICTURES = torch.tensor([0, 0, 0, 1, 1, 1, 1])


def _losses(num_ids: int = 5, dim: int = 4, **settings: Any) -> PairingLosses:
    torch.manual_seed(0)
    return PairingLosses(
        num_ids, dim, PairingSettings(**{"dictionary_size": 12, "priority_classes": 3} | settings)
    )


def _unit(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape), dim=-1)


def _filled(**settings: Any) -> tuple[PairingLosses, Tensor]:
    """Losses that remember something, and a batch."""
    losses = _losses(**settings)
    torch.manual_seed(1)
    losses.update_memory(_unit(9, 4), torch.tensor([0, 1, 2, 3, 4, -1, 0, 2, 1]))
    return losses, _unit(7, 4).requires_grad_()


def test_defaults_are_the_papers() -> None:
    settings = PairingSettings()
    assert settings.dictionary_size == 40 * 128
    assert (settings.alpha, settings.beta) == (1.0, 1.0)
    assert (settings.priority_classes, settings.center_scale) == (100, 10.0)
    assert (settings.center_momentum, settings.olp_scale, settings.hep_scale) == (0.5, 1.0, 1.0)


def test_olp_pairs_across_pictures_with_everyone_else_in_the_dictionary() -> None:
    losses, x = _filled(identity_loss="none")
    memory, ids = losses.dictionary.values.clone(), losses.dictionary.ids.clone()
    terms = []
    for a, p in ((0, 3), (3, 0), (1, 4), (4, 1)):
        negatives = memory[(ids != IDS[a]) & (ids > -2)]
        terms.append(online_pairing_loss(x[a : a + 1], x[p : p + 1], negatives))
    value = losses(x, IDS, PICTURES)
    assert value.keys() == {"olp"}
    torch.testing.assert_close(value["olp"], torch.stack(terms).mean())
    value["olp"].backward()  # though the dictionary has changed since
    assert x.grad is not None
    assert x.grad[[0, 1, 3, 4]].abs().sum(dim=1).min() > 0
    assert not x.grad[[2, 5, 6]].any()  # nobody's pair


@pytest.mark.parametrize("kind", ["hep", "c2hep"])
def test_the_pool_holds_who_is_present_and_the_hardest(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, x = _filled(num_ids=50, identity_loss=kind, priority_classes=5, hardest_negatives=2)
    assert losses.settings.priority_classes == 5
    pools: list[Tensor] = []

    def keep(labels: Tensor, hard: Tensor, classes: int, count: int) -> Tensor:
        # The labels of the two hardest negatives of rows 0, 1, 3, 4, the members of pairs.
        expected = set()
        for a in (0, 1, 3, 4):
            cosines = losses.dictionary.values @ x[a].detach()
            cosines[(losses.dictionary.ids == IDS[a]) | (losses.dictionary.ids < -1)] = -2
            expected |= set(losses.dictionary.ids[cosines.topk(2).indices].tolist())
        assert set(hard.tolist()) == expected
        assert len(hard) == 8
        assert classes == 51 - (kind == "c2hep")
        pools.append(select_priority_classes(labels, hard, classes, count))
        return pools[-1]

    monkeypatch.setattr("personsearch.systems.pairing.select_priority_classes", keep)
    before = None if losses.centers is None else losses.centers.values.clone()
    value = losses(x, IDS, PICTURES)[kind]
    (pool,) = pools
    assert len(pool) == 5
    assert {0, 2, 3} <= set(pool.tolist())
    if before is not None:
        expected = class_center_hep_loss(x, IDS, before, pool)
    else:
        assert losses.classifier is not None
        expected = hard_example_priority_loss(losses.classifier(x), IDS, pool)
    assert torch.equal(value, expected)


@pytest.mark.parametrize("kind", ["hep", "c2hep"])
def test_a_pool_of_zero_is_all_classes(kind: str) -> None:
    values = []
    for count in (0, 6, 5532):
        losses, x = _filled(identity_loss=kind, priority_classes=count)
        values.append(losses(x, IDS, PICTURES)[kind])
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_softmax_is_hep_over_all_classes() -> None:
    soft, x = _filled(identity_loss="softmax", hep_scale=3.0)
    hard, _ = _filled(identity_loss="hep", hep_scale=3.0, priority_classes=0)
    torch.testing.assert_close(soft(x, IDS, PICTURES)["softmax"], hard(x, IDS, PICTURES)["hep"])


@pytest.mark.parametrize("same", [False, True])
def test_the_losses_that_olp_is_compared_with(same: bool) -> None:
    pictures = torch.tensor([0, 0, 0, 0, 1, 1, 1])  # both of identity 0 are in one of them
    where = None if same else pictures
    changes = {"identity_loss": "none", "same_picture_pairs": same}
    losses, x = _filled(pairing_loss="triplet", **changes)
    expected = triplet_loss(x, batch_hard(x, IDS, where), 0.3)
    assert torch.equal(losses(x, IDS, pictures)["triplet"], expected)
    losses, x = _filled(pairing_loss="contrastive", **changes)
    expected = contrastive_loss(x, IDS, 1.0, where)
    assert torch.equal(losses(x, IDS, pictures)["contrastive"], expected)
    losses, x = _filled(pairing_loss="olp", **changes)
    losses(x, IDS, pictures)["olp"].backward()
    assert x.grad is not None
    assert x.grad.any(dim=1).tolist() == [same, True, False, same, True, False, False]


def test_without_losses_there_is_none() -> None:
    losses, x = _filled(**NONE)
    assert losses(x, IDS, PICTURES) == {}
    with pytest.raises(ModelError, match=r"no class has a score"):
        losses.scores(x)


@pytest.mark.parametrize("kind", ["softmax", "hep", "c2hep"])
def test_the_identity_loss_is_the_softmax_of_the_scores(kind: str) -> None:
    losses, x = _filled(identity_loss=kind, priority_classes=0, hep_scale=3.0)
    scores = losses.scores(x)
    assert scores.shape == (7, 5 if kind == "c2hep" else 6)
    expected = functional.cross_entropy(scores, IDS, ignore_index=-1)
    torch.testing.assert_close(losses(x, IDS, PICTURES)[kind], expected)


@pytest.mark.parametrize("pair", PAIRING)
@pytest.mark.parametrize("identity", IDENTITY)
def test_alpha_and_beta_weigh_what_they_stand_for(pair: str, identity: str) -> None:
    kinds: dict[str, Any] = {"pairing_loss": pair, "identity_loss": identity}
    plain, x = _filled(**kinds)
    scaled, _ = _filled(**kinds, alpha=0.25, beta=1.5)
    torch.manual_seed(2)
    one = plain(x, IDS, PICTURES)
    torch.manual_seed(2)
    two = scaled(x, IDS, PICTURES)
    assert one.keys() == two.keys() == {pair, identity} - {"none"}
    for name, value in one.items():
        assert value > 0
        factor = 0.25 if name == pair else 1.5
        torch.testing.assert_close(two[name], factor * value)


@pytest.mark.parametrize("pair", PAIRING)
@pytest.mark.parametrize("identity", IDENTITY)
@pytest.mark.parametrize("case", ["nobody", "nobody labelled", "one person", "one picture"])
def test_batches_without_pairs(pair: str, identity: str, case: str) -> None:
    kinds: dict[str, Any] = {"pairing_loss": pair, "identity_loss": identity}
    losses, x = _filled(**kinds)
    ids, pictures = IDS.clone(), PICTURES.clone()
    if case == "nobody":
        x, ids, pictures = x[:0], ids[:0], pictures[:0]
    elif case == "nobody labelled":
        ids[:] = -1
    elif case == "one person":
        x, ids, pictures = x[:1], ids[:1], pictures[:1]
    else:
        pictures[:] = 0
    values = losses(x, ids, pictures)
    for name, value in values.items():
        assert torch.isfinite(value)
        if name == "olp" or case.startswith("nobody"):
            assert value.item() == 0.0
        value.backward(retain_graph=True)
    assert all(p.grad is None or p.grad.isfinite().all() for p in losses.parameters())


@pytest.mark.parametrize("identity", IDENTITY)
@pytest.mark.parametrize("size", [0, 3])
def test_a_small_dictionary_and_few_identities(identity: str, size: int) -> None:
    kinds: dict[str, Any] = {"identity_loss": identity, "priority_classes": 100}
    losses, x = _filled(num_ids=5, dictionary_size=size, **kinds)
    values = losses(x, IDS, PICTURES)
    assert all(torch.isfinite(v) for v in values.values())
    torch.stack([*values.values()]).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    if not size:
        assert values["olp"].item() == 0.0


def test_the_first_batch_has_no_negatives() -> None:
    losses = _losses(identity_loss="c2hep", priority_classes=0)
    values = losses(_unit(7, 4).requires_grad_(), IDS, PICTURES)
    assert values["olp"].item() == 0.0
    assert values["c2hep"].item() == pytest.approx(math.log(5))  # no center has a direction
    assert losses.dictionary.ids[:7].tolist() == IDS.tolist()


def test_memories_learn_after_the_loss_in_training_alone() -> None:
    losses, x = _filled(identity_loss="c2hep", priority_classes=0)
    losses.eval()
    before = {k: v.clone() for k, v in losses.state_dict().items()}
    first = losses(x, IDS, PICTURES)
    assert all(torch.equal(before[k], v) for k, v in losses.state_dict().items())
    losses.train()
    second = losses(x, IDS, PICTURES)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert int(losses.dictionary.position) == (9 + 7) % 12
    assert losses.dictionary.ids[[9, 10, 11, 0, 1, 2, 3]].tolist() == IDS.tolist()
    assert torch.equal(losses.dictionary.values[9], x[0])
    assert losses.centers is not None
    moved = 0.25 * before["centers.values"][0] + 0.25 * x[0] + 0.5 * x[3]
    torch.testing.assert_close(losses.centers.values[0], moved)


def test_goes_on_from_a_saved_state() -> None:
    for identity in IDENTITY:
        losses, x = _filled(identity_loss=identity)
        copy = _losses(identity_loss=identity)
        copy.load_state_dict(losses.state_dict())
        for _ in range(2):
            values = []
            for one in (losses, copy):
                torch.manual_seed(3)
                values.append(one(x, IDS, PICTURES))
            assert all(torch.equal(v, values[1][k]) for k, v in values[0].items())
        assert torch.equal(copy.dictionary.ids, losses.dictionary.ids)


def test_is_float32_under_autocast() -> None:
    for identity in ("hep", "c2hep", "softmax"):
        values = []
        for enabled in (False, True):
            losses, x = _filled(identity_loss=identity)
            torch.manual_seed(4)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                values.append(losses(x, IDS, PICTURES))
        assert all(torch.equal(v, values[1][k]) for k, v in values[0].items())
        assert all(v.dtype == torch.float32 for v in values[1].values())


@pytest.mark.parametrize("name", ["dictionary_size", "priority_classes", "hardest_negatives"])
def test_sizes_below_zero_say_so(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} is -1, expected 0 or more"):
        _losses(**{name: -1})


WORKER = """
import sys
import torch
import torch.distributed as dist
from personsearch.systems.pairing import PairingLosses, PairingSettings

torch.set_num_threads(1)
rank, store, data, out = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
losses = PairingLosses(5, 4, PairingSettings(identity_loss="c2hep", dictionary_size=12))
for step in torch.load(data, weights_only=True):
    losses(*step[rank])
dist.barrier()
torch.save(losses.state_dict(), f"{out}{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_hold_what_one_holds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    steps = [
        [(_unit(n, 4), torch.randint(-1, 5, (n,)), torch.arange(n) // 2) for n in counts]
        for counts in ((4, 4), (2, 5), (0, 3), (0, 0))
    ]
    torch.save(steps, tmp_path / "data.pt")
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", WORKER, str(rank)),
                *(str(tmp_path / name) for name in ("store", "data.pt", "state")),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    alone = _losses(identity_loss="c2hep")
    for step in steps:
        alone(*(torch.cat(parts) for parts in zip(*step, strict=True)))
    for rank in range(2):
        state = torch.load(tmp_path / f"state{rank}.pt", weights_only=True)
        assert state.keys() == alone.state_dict().keys()
        for name, value in alone.state_dict().items():
            assert torch.equal(state[name], value), name
