"""Every loss with a row for each identity refuses an identity beyond its rows."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from personsearch.errors import TrainingError
from personsearch.losses.c2hep import class_center_hep_loss
from personsearch.losses.cosine_softmax import CosineSoftmax
from personsearch.losses.hep import hard_example_priority_loss
from personsearch.losses.identities import check_ids
from personsearch.losses.oim import OnlineInstanceMatching
from personsearch.losses.proxy_triplet import ProxyTriplet
from personsearch.losses.rss import random_sampling_softmax
from personsearch.losses.softmax import softmax_loss

POOL = torch.tensor([0, 1])
LOSSES: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "c2hep": (
        "table of class centers",
        lambda x, ids: class_center_hep_loss(x, ids, torch.eye(4)[:3], POOL),
    ),
    "cosine softmax": ("classifier", CosineSoftmax(3, 4)),
    "hep": ("classifier", lambda x, ids: hard_example_priority_loss(x[:, :3], ids, POOL)),
    "oim": ("lookup table", OnlineInstanceMatching(3, 4, 1)),
    "proxy triplet": ("proxy table", ProxyTriplet(3, 4)),
    "rss": ("classifier", lambda x, ids: random_sampling_softmax(x[:, :3], ids, 2)),
    "softmax": ("classifier", lambda x, ids: softmax_loss(x[:, :3], ids)),
}


@pytest.mark.parametrize(("holder", "loss"), LOSSES.values(), ids=LOSSES)
def test_an_identity_out_of_range_is_an_error(
    holder: str, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    x = torch.eye(4)[:2]
    assert torch.isfinite(loss(x, torch.tensor([2, -1])))
    with pytest.raises(TrainingError) as caught:
        loss(x, torch.tensor([-1, 3]))
    assert str(caught.value) == (
        f"identity 3 is out of range: the {holder} holds identities 0 to 2. Renumber the training "
        "identities without gaps."
    )


def test_no_identities_and_unlabelled_people_are_in_range() -> None:
    check_ids(torch.zeros(0, dtype=torch.int64), 0, "the table")
    check_ids(torch.tensor([-1, -2, 0]), 1, "the table")
