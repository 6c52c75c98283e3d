"""The probability that a match is the same person, calibrated on pairs of labelled people.

Let f1(s) and f0(s) be the densities of the similarity s between two views of one person and between
two people. Labelled pairs give their ratio, which does not depend on how many people are searched:

    LR(s) = f1(s) / f0(s)

This is fitted, rising with s. A search through N people of whom m are expected to be the person
finds m f1(s) right matches of similarity s, and N f0(s) wrong ones. So

    P(same | s, N) = m f1(s) / (m f1(s) + N f0(s)) = LR(s) / (LR(s) + N / m)

A match that is nearly certain among ten people says little among ten thousand. The probability
holds on average over queries and people like those of the labelled data.
"""

import datetime
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch.durable import replace_file
from personsearch.errors import DataError, StoreError
from personsearch.parsing import parse_json
from personsearch.store import ModelIdentity
from personsearch.store.audit import AuditLog

if TYPE_CHECKING:
    from personsearch.search.labelled_pairs import Pairs

FILE = "calibration.json"
"""File in the store's folder. It holds no people: shares of pairs by similarity."""
FORMAT = 1
CURVES = ("log_ratios", "false_rates", "true_rates")
"""Fields of the file with a number for each of 201 similarities."""
CROWD = 100
"""Number of people at which the maps are fitted and compared: rare high similarities decide."""

Values = NDArray[np.float64]

_STEPS = 2000  # of similarity, over -1..1
_CENTRES = (np.arange(_STEPS) + 0.5) * (2.0 / _STEPS) - 1.0
_KNOTS = np.linspace(-1.0, 1.0, 201)
_FOLDS = 5
_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Held-out pairs of about the same predicted probability."""

    predicted: float  # the mean probability
    found: float  # the share of pairs that are the same person
    weight: float  # the share of all pairs


@dataclass(frozen=True, eq=False)
class Calibration:
    """A map from similarity to the probability that two views show one person.

    Losses, errors and bins are measured on held-out identities. The curves are (201,), at the
    similarities -1, -0.99, ..., 1.
    """

    model: ModelIdentity  # of the embeddings that were compared
    data: tuple[str, ...]  # names of the data sets
    created_at: str  # in ISO 8601
    across: str  # which pairs were used: ``cameras`` or ``pictures``
    counts: Mapping[str, int]  # ``identities``, ``same``, ``other``: people, and pairs of them
    method: str  # ``isotonic``, ``logistic`` or ``beta``
    losses: Mapping[str, float]  # by method, log loss among `CROWD` people
    errors: Mapping[int, float]  # expected calibration error among 1 and `CROWD` people
    bins: tuple[ReliabilityBin, ...]  # at even odds
    log_ratios: Values  # log LR
    false_rates: Values  # share of pairs of two people that are at least that similar
    true_rates: Values  # share of pairs of one person that are at least that similar

    def probability(
        self, similarities: ArrayLike, crowd: float, *, expected: float = 1.0
    ) -> Values:
        """Return the probability of being the same person for each similarity, a cosine.

        `crowd` is N, the people searched; `expected` m, those assumed to be the person.

        Raises:
            StoreError: `expected` is not above 0.
        """
        if not expected > 0:
            raise StoreError(f"expected is {expected}, a probability needs a number above 0")
        ratios = np.interp(np.asarray(similarities, float), _KNOTS, self.log_ratios)
        return _sigmoid(ratios - math.log(max(crowd, expected) / expected))

    def wrong_first(self, crowd: int) -> float:
        """Return the probability that one of `crowd` others is more similar than the own view.

        The similarities of the others are assumed to be independent of each other:
        1 - sum over s of f1(s) (1 - F(s)) ** N, where F(s) is the rate of `false_rates`.
        """
        shares = -np.diff(self.true_rates, append=0.0)
        return float(1.0 - (shares * (1.0 - self.false_rates) ** crowd).sum())

    def reliability_on(self, pairs: "Pairs", crowd: float = 1.0) -> list[ReliabilityBin]:
        """Return predicted and found probabilities of other labelled pairs, as if among `crowd`."""
        tested = _Shares.of(pairs.same, pairs.other, pairs, 1)
        assert tested is not None
        ratios = np.interp(_CENTRES, _KNOTS, self.log_ratios)
        return _reliability([(ratios, tested)], crowd)

    def similarity_for(
        self, probability: float, crowd: float, *, expected: float = 1.0
    ) -> float | None:
        """Return the lowest similarity of at least that probability; None if none reaches it."""
        reached = self.probability(_KNOTS, crowd, expected=expected) >= probability
        return float(_KNOTS[reached.argmax()]) if reached.any() else None

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "format": FORMAT,
            "model": vars(self.model),
            "data": list(self.data),
            "made": self.created_at,
            "across": self.across,
            "counts": dict(self.counts),
            "method": self.method,
            "losses": dict(self.losses),
            "errors": {str(crowd): error for crowd, error in self.errors.items()},
            "bins": [vars(one) for one in self.bins],
            "log_ratios": self.log_ratios.round(6).tolist(),
            "false_rates": self.false_rates.tolist(),
            "true_rates": self.true_rates.tolist(),
        }


def fit_calibration(
    pairs: "Pairs", model: ModelIdentity, data: tuple[str, ...] = ()
) -> Calibration:
    """Fit every map, and return the one with the lowest loss on held-out identities.

    The ratio is limited to what the number of people can show: between 1 / identities and the
    number of pairs of identities.

    Raises:
        DataError: fewer than four people are seen twice.
    """
    seen = np.unique(pairs.same_ids)
    if len(seen) < 4:
        raise DataError(f"{len(seen)} people are seen twice, expected at least 4")
    people = int(max(pairs.same_ids.max(), pairs.other_ids.max())) + 1
    count = min(_FOLDS, len(seen) // 2)
    # People who are seen twice are distributed first, so that each fold has some.
    order = np.random.default_rng(0).permutation(people)
    order = np.concatenate([order[np.isin(order, seen)], order[~np.isin(order, seen)]])
    folds = np.argsort(order) % count
    held: dict[str, list[tuple[Values, _Shares]]] = {name: [] for name in _METHODS}
    losses: dict[str, list[float]] = {name: [] for name in _METHODS}
    own, others = folds[pairs.same_ids], folds[pairs.other_ids]
    for fold in range(count):
        left_in, held_out = (others != fold).all(axis=1), (others == fold).all(axis=1)
        train = _Shares.of(pairs.same[own != fold], pairs.other[left_in], pairs, count)
        test = _Shares.of(pairs.same[own == fold], pairs.other[held_out], pairs, count)
        if train is None or test is None:
            continue
        for name, method in _METHODS.items():
            ratios = method(train).clip(*train.limits)
            held[name].append((ratios, test))
            losses[name].append(test.loss(ratios, CROWD))
    if not losses["logistic"]:
        raise DataError("no two labelled people are in different pictures: label more people")
    mean = {name: float(np.mean(values)) for name, values in losses.items()}
    best = min(mean, key=lambda name: mean[name])
    everything = _Shares.of(pairs.same, pairs.other, pairs, 1)
    assert everything is not None
    fitted = _METHODS[best](everything).clip(*everything.limits)
    return Calibration(
        model,
        data,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        pairs.across,
        {"identities": len(seen), "same": len(pairs.same), "other": len(pairs.other)},
        best,
        mean,
        {crowd: calibration_error(_reliability(held[best], crowd)) for crowd in (1, CROWD)},
        tuple(_reliability(held[best], 1)),
        np.interp(_KNOTS, _CENTRES, fitted),
        _at_least(pairs.other, smoothed=True),
        _at_least(pairs.same, smoothed=False),
    )


@dataclass(frozen=True, eq=False)
class _Shares:
    """Histograms of pairs by similarity: shares (2000,) of those of one person and of two."""

    same: Values
    other: Values
    limits: tuple[float, float]  # log ratios that the number of people can show

    @classmethod
    def of(cls, same: ArrayLike, other: ArrayLike, pairs: "Pairs", folds: int) -> "_Shares | None":
        scaled = [(np.asarray(part, float) + 1.0) * (_STEPS / 2) for part in (same, other)]
        steps = [part.astype(np.int64).clip(0, _STEPS - 1) for part in scaled]
        counts = [np.bincount(part, minlength=_STEPS) for part in steps]
        if not counts[0].any() or not counts[1].any():
            return None
        seen, both = (len(np.unique(ids)) for ids in (pairs.same_ids, pairs.other_ids))
        if folds > 1:
            seen, both = seen - seen // folds, both - both // folds
        # More views of the same two people are not new evidence, so pairs of people are counted.
        limits = math.log(1.0 / seen), math.log(max(both * (both - 1) / 2, 1.0))
        return cls(counts[0] / counts[0].sum(), counts[1] / counts[1].sum(), limits)

    def weights(self, crowd: float) -> tuple[Values, Values]:
        """Return the shares in a search among `crowd` people."""
        return self.same / (1.0 + crowd), self.other * crowd / (1.0 + crowd)

    def loss(self, ratios: Values, crowd: float) -> float:
        """Return the mean log loss of log ratios in a search among `crowd` people."""
        odds = ratios - math.log(crowd)
        same, other = self.weights(crowd)
        return float((same * np.logaddexp(0, -odds) + other * np.logaddexp(0, odds)).sum())


def _isotonic(shares: _Shares) -> Values:
    """Zadrozny and Elkan, KDD 2002: isotonic regression."""
    from scipy.optimize import isotonic_regression

    same, other = shares.weights(CROWD)
    weight = same + other
    used = weight > 0
    found = isotonic_regression(same[used] / weight[used], weights=weight[used]).x
    share = np.clip(np.interp(_CENTRES, _CENTRES[used], found), 1e-12, 1.0 - 1e-12)
    ratios: Values = np.log(share / (1.0 - share)) + math.log(CROWD)
    return ratios


def _logistic(shares: _Shares) -> Values:
    """Platt, 1999: log odds linear in the similarity."""
    return _linear(shares, np.stack([_CENTRES, np.ones(_STEPS)]))


def _beta(shares: _Shares) -> Values:
    """Kull, Silva Filho and Flach, AISTATS 2017: beta calibration of the similarity in 0..1."""
    unit = (_CENTRES + 1.0) / 2.0
    return _linear(shares, np.stack([np.log(unit), -np.log(1.0 - unit), np.ones(_STEPS)]))


def _linear(shares: _Shares, features: Values) -> Values:
    """Log ratios linear in rising features (F, 2000), the last constant, of least log loss."""
    from scipy.optimize import minimize

    same, other = shares.weights(CROWD)

    def loss(factors: Values) -> tuple[float, Values]:
        odds = factors @ features
        value = (same * np.logaddexp(0, -odds) + other * np.logaddexp(0, odds)).sum()
        gradient = features @ (other * _sigmoid(odds) - same * _sigmoid(-odds))
        # Scaled to one pair of the same person, so that the solver does not stop early.
        return float(value) * CROWD, gradient * CROWD

    start = np.array([1.0] * (len(features) - 1) + [-math.log(CROWD)])
    bounds = [(0.0, None)] * (len(features) - 1) + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    factors: Values = found.x
    return factors @ features + math.log(CROWD)


_METHODS = {"isotonic": _isotonic, "logistic": _logistic, "beta": _beta}


def _sigmoid(odds: Values) -> Values:
    found: Values = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return found


def _at_least(similarities: ArrayLike, *, smoothed: bool) -> Values:
    """The share of pairs at or above each knot; smoothed: never 0, as if one more were above."""
    ordered = np.sort(np.asarray(similarities, float))
    counts = len(ordered) - np.searchsorted(ordered, _KNOTS - 1e-9)
    share: Values = (counts + smoothed) / (len(ordered) + smoothed)
    return share


def _reliability(held: list[tuple[Values, _Shares]], crowd: float) -> list[ReliabilityBin]:
    """Held-out shares in a search among `crowd` people, by predicted probability."""
    sums = np.zeros((_BINS, 3))
    for ratios, shares in held:
        predicted = _sigmoid(ratios - math.log(crowd))
        which = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
        right, wrong = shares.weights(crowd)
        for column, values in enumerate((predicted * (right + wrong), right, right + wrong)):
            sums[:, column] += np.bincount(which, values, _BINS) / len(held)
    return [
        ReliabilityBin(float(mean / weight), float(right / weight), float(weight))
        for mean, right, weight in sums
        if weight > 0
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the expected calibration error: the mean distance of predicted and found."""
    return float(sum(one.weight * abs(one.predicted - one.found) for one in bins))


def show_probability(probability: float | None) -> str:
    """A probability in percent, never as certain; empty for None."""
    if probability is None:
        return ""
    if 0.01 <= probability <= 0.99:
        return f"{100 * probability:.0f} %"
    return "> 99 %" if probability > 0.99 else "< 1 %"


def write_calibration(calibration: Calibration, folder: Path, *, caller: str | None = None) -> Path:
    """Write the file into a store's folder atomically, after a line in its audit log.

    `caller` is for that line; None for the user of this machine. `StoreError` if either fails.
    """
    path = Path(folder) / FILE
    about = {"data": list(calibration.data), **calibration.counts, "method": calibration.method}
    AuditLog(folder).append("calibrate", caller, about)
    try:
        replace_file(path, json.dumps(calibration.as_json(), indent=1), mode=0o600)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def read_calibration(folder: Path | str, model: ModelIdentity) -> Calibration | None:
    """Return the calibration of a store whose embeddings `model` made, or None if it has none.

    Raises:
        StoreError: the file is damaged, or of another model.
    """
    path = Path(folder) / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
    try:
        found = _from_json(parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise StoreError(
            f"{path}: is not a calibration of this version ({error}); make it again with: "
            "personsearch calibrate, or delete it"
        ) from None
    if found.model.fingerprint != model.fingerprint:
        raise StoreError(
            f"{path}: was made with model {found.model.name!r} ({found.model.fingerprint[:12]}), "
            f"the store with {model.name!r} ({model.fingerprint[:12]}); make it again with: "
            "personsearch calibrate, or delete it"
        )
    return found


_MODEL: dict[str, Callable[[Any], Any]] = {
    "name": str,
    "fingerprint": str,
    "dim": int,
    "weighted": bool,
}


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return float(value)


def _from_json(plain: Any) -> Calibration:
    if plain["format"] != FORMAT:
        raise ValueError(f"format {plain['format']}")
    curves = [np.array(plain[name], float) for name in CURVES]
    if any(curve.shape != _KNOTS.shape or not np.isfinite(curve).all() for curve in curves):
        raise ValueError("a curve is not 201 numbers")
    model = {key: kind(plain["model"][key]) for key, kind in _MODEL.items()}
    if set(plain["model"]) != set(model):
        raise ValueError(f"a model with {', '.join(plain['model'])}")
    return Calibration(
        ModelIdentity(**model),
        tuple(map(str, plain["data"])),
        str(plain["made"]),
        str(plain["across"]),
        {str(key): int(value) for key, value in plain["counts"].items()},
        str(plain["method"]),
        {str(key): _finite(value) for key, value in plain["losses"].items()},
        {int(key): _finite(value) for key, value in plain["errors"].items()},
        tuple(
            ReliabilityBin(*(_finite(one[name]) for name in ("predicted", "found", "weight")))
            for one in plain["bins"]
        ),
        *curves,
    )
