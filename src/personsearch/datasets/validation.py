"""Splits a validation set off the training split, by identity and by picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from personsearch.datasets.dataset import Dataset, Dropped, with_ids
from personsearch.datasets.protocols import LazyProtocols, all_protocol
from personsearch.errors import DataError
from personsearch.types import UNLABELLED, Scene


def split_validation(dataset: Dataset, fraction: float = 0.1, seed: int = 0) -> Dataset:
    """Return a data set with some identities and pictures of ``train`` moved to ``val``.

    A random `fraction` of the identities moves; those in a single picture cannot be searched and
    are chosen last. About the same fraction of the pictures moves: at least two of each chosen
    identity, from different cameras if possible, then those with the largest share of such people,
    and `fraction` of the pictures without a labelled person.

    As people share pictures, each side still shows people of the other; they become unlabelled
    there and are counted in `Dataset.dropped`. No identity and no picture is on both sides.

    In ``train`` ids become 0..n-1 in their old order; in ``val`` they keep the numbers of the files
    (`Dataset.source_ids`) or of ``train``. Protocol ``val`` has one query per identity and camera,
    over every other picture of ``val``.

    Raises:
        DataError: there is no ``train``, a ``val`` already, fewer than two labelled identities, or
            the fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise DataError(f"validation fraction is {fraction}, expected a number between 0 and 1")
    train = dataset.split("train")
    if "val" in dataset.splits:
        raise DataError(f"data set {dataset.name!r} has a validation split already")
    shown = _shown(train)
    if len(shown) < 2:
        raise DataError(
            f"data set {dataset.name!r} has {len(shown)} labelled identities in train, "
            "expected at least 2 to split"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    order = [sorted(shown)[k] for k in rng.permutation(len(shown)).tolist()]
    order.sort(key=lambda id_: len(shown[id_]) < 2)
    chosen = frozenset(order[: min(max(1, round(fraction * len(order))), len(order) - 1)])
    out = _pictures(train, shown, chosen, fraction, rng.random(len(train)).tolist())

    dropped = list(dataset.dropped)
    staying = [scene for k, scene in enumerate(train) if k not in out]
    kept = sorted(_shown(staying).keys() - chosen)
    source = dataset.source_ids
    staying = _keep_ids(staying, {id_: k for k, id_ in enumerate(kept)}, dropped)
    numbers = {id_: id_ if source is None else source[id_] for id_ in chosen}
    moved = _keep_ids([train[k] for k in sorted(out)], numbers, dropped)
    others = {name: scenes for name, scenes in dataset.splits.items() if name != "train"}
    builders = {name: partial(dataset.protocols.__getitem__, name) for name in dataset.protocols}
    return replace(
        dataset,
        splits={"train": staying, "val": moved, **others},
        protocols=LazyProtocols({"val": lambda: all_protocol(moved, "val"), **builders}),
        dropped=dropped,
        source_ids=None if source is None else [source[id_] for id_ in kept],
    )


def _shown(scenes: Sequence[Scene]) -> dict[int, list[int]]:
    """Return the indices of the scenes that show each identity."""
    shown: dict[int, list[int]] = {}
    for k, scene in enumerate(scenes):
        for id_ in sorted({i for i in scene.ids.tolist() if i != UNLABELLED}):
            shown.setdefault(id_, []).append(k)
    return shown


def _pictures(
    train: Sequence[Scene],
    shown: Mapping[int, Sequence[int]],
    chosen: frozenset[int],
    fraction: float,
    lots: Sequence[float],
) -> set[int]:
    """Return the indices of the scenes that move to validation."""
    labelled = [[i for i in scene.ids.tolist() if i != UNLABELLED] for scene in train]
    part = [sum(i in chosen for i in ids) / max(len(ids), 1) for ids in labelled]
    out = {k for k, ids in enumerate(labelled) if not ids and lots[k] < fraction}
    background = len(out)
    for id_ in sorted(chosen):
        mine = sorted(shown[id_], key=lambda k: (-part[k], lots[k]))
        held = [k for k in mine if k in out]
        while len(held) < min(2, len(mine)):
            cameras = {train[k].camera for k in held}
            free = [k for k in mine if k not in out]
            free.sort(key=lambda k: train[k].camera in cameras)
            held.append(free[0])
            out.add(free[0])
    budget = background + round(fraction * sum(bool(ids) for ids in labelled))
    for k in sorted(range(len(train)), key=lambda k: (-part[k], lots[k])):
        if len(out) >= budget or not part[k]:
            break
        out.add(k)
    return out


def _keep_ids(
    scenes: Sequence[Scene], numbers: Mapping[int, int], dropped: list[Dropped]
) -> list[Scene]:
    """Return the scenes with new ids; record every identity that becomes unlabelled."""
    for scene in scenes:
        for id_ in scene.ids.tolist():
            if id_ != UNLABELLED and id_ not in numbers:
                reason = "identity of the other side of the validation split: unlabelled here"
                dropped.append(Dropped(f"{scene.name}, id {id_}", reason))
    return [with_ids(scene, numbers) for scene in scenes]
