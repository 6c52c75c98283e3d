"""Chances are right where the truth is known, and a calibration stays with its model."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from personsearch.errors import DataError, StoreError
from personsearch.search.calibration import (
    FILE,
    calibration_error,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from personsearch.search.labelled_pairs import Pairs
from personsearch.store import ModelIdentity
from personsearch.store.audit import HEAD, LOCK, LOG, AuditLog

MODEL = ModelIdentity("made", "a" * 64, 8)
SAME, OTHER, SPREAD = 0.65, 0.25, 0.12
"""Means of two normal distributions of similarity, and their deviation."""


def drawn(people: int = 300, seed: int = 0) -> Pairs:
    """Pairs whose log LR is known: linear in the similarity."""
    rng = np.random.default_rng(seed)
    same_ids = np.repeat(np.arange(people), 8)
    other_ids = rng.integers(0, people, (60_000, 2))
    other_ids = other_ids[other_ids[:, 0] != other_ids[:, 1]]
    return Pairs(
        rng.normal(SAME, SPREAD, len(same_ids)).astype(np.float32),
        same_ids,
        rng.normal(OTHER, SPREAD, len(other_ids)).astype(np.float32),
        other_ids,
    )


def true_log_ratio(similarity: np.ndarray) -> np.ndarray:
    return ((similarity - OTHER) ** 2 - (similarity - SAME) ** 2) / (2 * SPREAD**2)


@pytest.mark.parametrize("crowd", [10, 100, 1000])
@pytest.mark.parametrize("expected", [1, 3])
def test_of_matches_of_a_chance_that_share_is_right(crowd: int, expected: int) -> None:
    """Searches among a crowd, drawn anew: of all matches said to be p sure, p are right."""
    calibration = fit_calibration(drawn(), MODEL)
    rng = np.random.default_rng(crowd)
    searches = 400_000 // crowd
    right = rng.normal(SAME, SPREAD, searches * expected)
    wrong = rng.normal(OTHER, SPREAD, searches * crowd)
    similarity = np.concatenate([right, wrong])
    truth = np.arange(len(similarity)) < len(right)
    chance = calibration.probability(similarity, crowd, expected=expected)
    for low in np.arange(0.0, 1.0, 0.2):
        rows = (chance >= low) & (chance < low + 0.2)
        noise = 3 * 0.5 / math.sqrt(max(rows.sum(), 1))
        assert abs(chance[rows].mean() - truth[rows].mean()) < 0.05 + noise
    # The exact posterior, where matches lie.
    exact = 1 / (1 + crowd / expected * np.exp(-true_log_ratio(right)))
    own = calibration.probability(right, crowd, expected=expected)
    assert np.abs(own - exact).mean() < 0.03


def test_the_chance_falls_with_the_crowd_and_rises_with_similarity() -> None:
    calibration = fit_calibration(drawn(), MODEL)
    similarity = np.linspace(-1, 1, 101)
    chances = [calibration.probability(similarity, crowd) for crowd in (1, 10, 100, 10_000)]
    for chance in chances:
        assert (np.diff(chance) >= 0).all()
    for small, large in itertools.pairwise(chances):
        assert (small > large).all()
    # Where both are as likely, one of two is right.
    assert calibration.probability((SAME + OTHER) / 2, 1) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(StoreError, match="above 0"):
        calibration.probability(0.5, 10, expected=0)
    least = calibration.similarity_for(0.5, 100)
    assert least is not None
    exact = (SAME + OTHER) / 2 + math.log(100) * SPREAD**2 / (SAME - OTHER)
    assert least == pytest.approx(exact, abs=0.03)
    assert calibration.similarity_for(0.5, 1e12) is None


def test_so_few_people_cannot_show_more() -> None:
    """No similarity is surer than as many couples of people can show."""
    few = fit_calibration(drawn(people=6), MODEL)
    assert few.log_ratios.max() <= math.log(15) + 1e-9
    assert few.log_ratios.min() >= -math.log(6) - 1e-9
    with pytest.raises(DataError, match="3 people are seen twice"):
        fit_calibration(drawn(people=3), MODEL)


def test_the_map_that_holds_on_others_is_taken() -> None:
    """Normal similarities of one deviation are what the logistic map is for; steps are not."""
    calibration = fit_calibration(drawn(people=40), MODEL)
    assert calibration.method in ("logistic", "beta")
    assert calibration.losses[calibration.method] == min(calibration.losses.values())
    rng = np.random.default_rng(3)
    pairs = drawn()
    # Two kinds of view: one sure, one that says nothing.
    same = np.where(rng.random(len(pairs.same)) < 0.5, 0.9, rng.uniform(0.2, 0.6, len(pairs.same)))
    other = rng.uniform(0.2, 0.6, len(pairs.other))
    steps = fit_calibration(replace(pairs, same=same, other=other), MODEL)
    assert steps.method == "isotonic"
    low, middle = steps.probability([0.3, 0.5], 1)
    assert low == pytest.approx(1 / 3, abs=0.05)
    assert middle == pytest.approx(1 / 3, abs=0.05)
    assert steps.probability(0.9, 1) > 0.99
    assert steps.errors[1] < 0.03


def test_false_rates_and_who_comes_first() -> None:
    calibration = fit_calibration(drawn(), MODEL)
    middle = np.interp(OTHER, np.linspace(-1, 1, 201), calibration.false_rates)
    assert middle == pytest.approx(0.5, abs=0.02)
    assert calibration.false_rates[-1] > 0  # as if one more had been seen
    rng = np.random.default_rng(5)
    for crowd in (10, 200):
        own = rng.normal(SAME, SPREAD, 4000)
        best = rng.normal(OTHER, SPREAD, (4000, crowd)).max(axis=1)
        assert calibration.wrong_first(crowd) == pytest.approx((best > own).mean(), abs=0.04)


def test_reliability_on_other_pairs_shows_what_does_not_hold() -> None:
    calibration = fit_calibration(drawn(), MODEL)
    assert calibration_error(calibration.reliability_on(drawn(seed=1))) < 0.03
    shifted = drawn(seed=2)
    shifted = replace(shifted, same=shifted.same - 0.3)
    assert calibration_error(calibration.reliability_on(shifted)) > 0.2
    (one, *_) = calibration.reliability_on(drawn(seed=1), crowd=100)
    assert one.weight > 0.9  # nearly all pairs are of two people


def test_the_file_keeps_it_all_and_belongs_to_a_model(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, MODEL) is None
    made = fit_calibration(drawn(people=40), MODEL, ("street",))
    assert write_calibration(made, tmp_path) == tmp_path / FILE
    read = read_calibration(tmp_path, MODEL)
    assert read is not None
    assert read.as_json() == made.as_json()
    left = {path.name for path in tmp_path.iterdir()} - {LOG, HEAD, LOCK}
    assert left == {FILE}
    (entry,) = AuditLog(tmp_path).entries()
    assert (entry.action, entry.details["identities"]) == ("calibrate", made.counts["identities"])
    with pytest.raises(StoreError, match="was made with model 'made'"):
        read_calibration(tmp_path, replace(MODEL, fingerprint="b" * 64))
    plain = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    changed = (
        {"log_ratios": [1, 2]},
        {"log_ratios": [10**400] * 201},
        {"losses": {"beta": float("nan")}},
        {"counts": {"same": float("inf")}},
        {"errors": {"1": 10**400}},
        {"bins": [{"predicted": None, "found": 0.5, "weight": 1}]},
        {"model": {"name": "made"}},
        {"model": plain["model"] | {"more": 1}},
    )
    for wrong in ("{", "[]", "{}", "[" * 99_999, *(json.dumps(plain | one) for one in changed)):
        (tmp_path / FILE).write_text(wrong, encoding="utf-8")
        with pytest.raises(StoreError, match="is not a calibration of this version"):
            read_calibration(tmp_path, MODEL)
