import math
from dataclasses import replace

from personsearch.bench.ablation import Ablation, Cause, Claim, Column, Variant
from personsearch.bench.claims import Mean, Results
from personsearch.bench.runs import Result
from personsearch.bench.tables import (
    Section,
    as_json,
    claims,
    document,
    markdown,
    narrowed,
    remarks,
    rows,
    sections,
    with_deviation,
    with_margin,
)
from personsearch.plots.tables import TextTable

ABLATION = Ablation(
    name="losses",
    title="losses",
    paper="Someone 2020, table 1",
    note="A note.",
    recipe="oim",
    column=(
        Column(measure="mean_ap", title="mAP"),
        Column(measure="train_seconds", title="training, s", unit="number", difference=False),
    ),
    variant=(
        Variant(name="with", label="with the loss", paper={"mean_ap": 83.7}),
        Variant(name="without", paper={"mean_ap": 81.0}),
    ),
    claim=(Claim(says="the loss helps", better="with", worse="without"),),
)
FAILED = Result({}, failure="NonFiniteLossError: loss is nan")


def results(a: list[float], b: list[float]) -> Results:
    def made(values: list[float]) -> list[Result]:
        return [Result({"mean_ap": value, "train_seconds": 61.25}) for value in values]

    return {"with": made(a), "without": made(b)}


KNOWN = results([0.30, 0.32, 0.31, 0.3, 0.32], [0.28, 0.29, 0.285, 0.27, 0.3])


def section(results: Results, floor: float = math.nan, **changed: object) -> Section:
    (one,) = sections([(ABLATION.model_copy(update=changed), results, floor)])
    return one


def test_ours_the_difference_and_the_papers_stand_side_by_side() -> None:
    table = rows(section(KNOWN))
    assert table.header == ["variant", "mAP, %", "to first row", "paper", "training, s", "seeds"]
    assert table.rows == [
        ["with the loss", "31.0 ± 1.0", "·", "83.7", "61.2 ± 0", "5"],
        ["without", "28.5 ± 1.1", "-2.5 ± 0.6", "81", "61.2 ± 0", "5"],
    ]


def test_a_claim_is_answered_beside_the_papers_difference() -> None:
    assert claims(section(KNOWN)).rows == [
        ["the loss helps", "shown", "+2.5 ± 0.6", "0.000", "+2.7"]
    ]


def test_runs_that_are_missing_or_failed_are_marked() -> None:
    one = section({"with": results([0.3], [])["with"], "without": [FAILED]})
    assert rows(one).rows[0] == ["with the loss", "30.0", "·", "83.7", "61.2", "1"]
    assert rows(one).rows[1] == ["without", "·", "·", "81", "·", "not run"]
    assert claims(one).rows[0][1:] == ["not run", "·", "·", "+2.7"]
    assert remarks(one) == ["without, seed 0: NonFiniteLossError: loss is nan"]


def test_a_row_that_is_left_out_is_shown_and_says_why() -> None:
    variants = (ABLATION.variant[0], ABLATION.variant[1].model_copy(update={"left_out": "no data"}))
    one = section({"with": KNOWN["with"]}, variant=variants)
    assert rows(one).rows[1][-1] == "left out"
    assert "without: left out: no data" in remarks(one)


def test_both_weightings_stand_beside_the_first_map_with_the_threshold() -> None:
    both = {"mean_ap@plain": 0.4, "mean_ap@weighted": 0.3, "score_threshold": 0.5}
    known = {
        name: [Result({**result.metrics, **both}) for result in ours]
        for name, ours in KNOWN.items()
    }
    one = section(known)
    assert rows(one).header[1:5] == ["mAP, %", "plain, %", "x score, %", "to first row"]
    assert rows(one).rows[0][2:4] == ["40.0 ± 0.0", "30.0 ± 0.0"]
    assert "Detections with a score of at least 0.5 are searched." in remarks(one)
    # A table that has them as columns of its own gets no others.
    own = (*ABLATION.column, Column(measure="mean_ap@plain", title="plain"))
    assert len(rows(section(known, column=own)).header) == 8


def test_an_opposite_result_names_its_cause_and_the_rows_that_test_it() -> None:
    opposite = {"with": KNOWN["without"], "without": KNOWN["with"]}
    said = "Opposite: the loss helps. "
    assert said + "No cause was tested." in remarks(section(opposite))
    cause = Cause(says="Too few steps.", rows=("without",))
    claim = ABLATION.claim[0].model_copy(update={"cause": cause})
    one = section(opposite, claim=(claim,))
    assert said + "Cause: Too few steps. Rows that test it: without." in remarks(one)
    both = ABLATION.claim[0].model_copy(update={"reversed_on": "PRW"})
    one = section(opposite, claim=(both,))
    assert claims(one).rows[0][1] == "opposite, as on PRW"
    assert not [line for line in remarks(one) if line.startswith("Opposite")]


def test_the_claims_of_all_sections_are_one_family() -> None:
    parts = sections([(ABLATION, KNOWN, math.nan), (ABLATION, KNOWN, math.nan), (ABLATION, {}, 0)])
    assert [part.family for part in parts] == [2, 2, 2]
    assert any("tested in the whole report: 2;" in line for line in remarks(parts[0]))
    assert not any("tested in" in line for line in remarks(parts[2]))


def test_models_near_color_alone_are_named() -> None:
    lines = remarks(section(KNOWN, floor=0.2))
    assert lines[0] == "Colour alone on true boxes: mAP 20.0 %."
    assert lines[1].endswith("colour there, too little to compare: without.")


def test_a_model_is_near_color_on_true_boxes_where_those_are_known() -> None:
    far = {
        name: [replace(one, metrics=one.metrics | {"mean_ap@truth": 0.5}) for one in ours]
        for name, ours in KNOWN.items()
    }
    assert not any("too little to compare" in line for line in remarks(section(far, floor=0.2)))


def test_a_document_holds_everything() -> None:
    one = section(KNOWN, floor=0.361, here=("all rows: lr = 1",))
    text = document(one, 3, ["images/losses.png"])
    assert text.startswith(
        "### losses: losses\n\nPaper: Someone 2020, table 1.\n\nA note.\n\n- Synthetic: all rows:"
    )
    assert "| with the loss | 31.0 ± 1.0 | · | 83.7 | 61.2 ± 0 | 5 |" in text
    assert "- Colour alone on true boxes: mAP 36.1 %." in text
    assert text.endswith("![losses](images/losses.png)\n")


def test_a_document_of_nothing_says_so() -> None:
    text = document(section({}))
    assert text.endswith("A note.\n\nNot run.\n")
    text = document(replace(section({}), problem="no such recipe"))
    assert text.endswith("A note.\n\nNot run: no such recipe\n")


def test_a_wide_table_is_printed_as_several() -> None:
    table = TextTable("t", ("name", "first", "second", "third"), [("x", "1", "22", "333333333")])
    assert narrowed(table, 80) == [
        TextTable("t", ["name", "first", "second", "third"], [["x", "1", "22", "333333333"]])
    ]
    several = narrowed(table, 26)
    assert [part.header for part in several] == [["name", "first", "second"], ["name", "third"]]
    assert [part.title for part in several] == ["t", ""]
    assert several[1].rows == [["x", "333333333"]]
    # A column that fits nowhere still is printed.
    assert [part.header[1] for part in narrowed(table, 5)] == ["first", "second", "third"]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    table = TextTable("t", ("a", "b"), [("x | y", "1")])
    assert markdown(table) == "| a | b |\n| --- | ---: |\n| x \\| y | 1 |"


def test_json_has_no_nan() -> None:
    values = as_json(section({"with": results([0.3], [])["with"]}))
    figures = values["variants"]["with"]["figures"]["mean_ap"]
    assert figures == {"mean": 0.3, "deviation": None, "count": 1}
    assert values["hsv_floor"] is None
    assert values["claims"][0]["here"] == "not run"
    assert (values["claims"][0]["p"], values["claims_tested"]) == (None, 0)


def test_large_and_small_numbers_are_readable() -> None:
    assert with_deviation(Mean(1_427_198.0, 0.0, 3), percent=False) == "1,427,198 ± 0"
    assert with_deviation(Mean(0.5, math.nan, 1), percent=True) == "50.0"
    assert with_margin(Mean(-1.234567, 0.2, 4), percent=False) == "-1.23 ± 0.318"
