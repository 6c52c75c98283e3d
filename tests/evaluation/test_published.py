"""The table of published metrics."""

import pytest

from personsearch.evaluation.published import published_results


def test_metrics_are_those_of_the_papers() -> None:
    (trident,) = published_results("prw", "multi-view", "trident")
    assert (trident.mean_ap, trident.top_1) == (pytest.approx(0.480), pytest.approx(0.732))
    (oim,) = published_results("cuhk-sysu", system="oim")
    assert (oim.protocol, oim.mean_ap) == ("gallery-100", pytest.approx(0.755))
    assert {r.method for r in published_results(system="sequential")} == {
        f"Loesch {kind}" for kind in ("J2", "J3", "J4", "disjoint")
    }


def test_rows_are_complete_and_unique() -> None:
    rows = published_results()
    assert len({(r.method, r.data, r.protocol) for r in rows}) == len(rows) == 32
    for row in rows:
        assert 0 < row.mean_ap < 1
        assert 0 < row.top_1 < 1
        assert (
            row.protocol
            in {"cuhk-sysu": ("gallery-100",), "prw": ("regular", "multi-view")}[row.data]
        )
