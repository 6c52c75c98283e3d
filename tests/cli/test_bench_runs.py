from pathlib import Path

import pytest
import typer

from personsearch.bench.ablation import Ablation, Data
from personsearch.cli.bench_runs import check_tables, folders
from personsearch.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that looks like PRW, and one that looks like CUHK-SYSU."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "frame_train.mat").touch()
    (tmp_path / "photos" / "annotation").mkdir(parents=True)
    return tmp_path


def test_the_data_set_without_a_name_is_the_main_one(data: Path) -> None:
    assert folders(None, "synthetic") == {}
    assert folders([str(data / "frames")], "synthetic") == {"main": data / "frames"}
    named = folders([f"other={data / 'photos'}", str(data / "frames")], "synthetic")
    assert named == {"other": data / "photos", "main": data / "frames"}


def test_at_the_papers_scale_each_has_the_name_of_its_format(data: Path) -> None:
    both = folders([str(data / "frames"), str(data / "photos")], "paper")
    assert both == {
        "main": data / "frames",
        "prw": data / "frames",
        "cuhk-sysu": data / "photos",
    }
    with pytest.raises(DataError, match="nowhere: no such data set"):
        folders(["nowhere"], "paper")


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(data: Path) -> None:
    (data / "a=b").mkdir()
    assert folders([str(data / "a=b")], "synthetic") == {"main": data / "a=b"}


@pytest.mark.parametrize("scale", ["synthetic", "paper"])
def test_a_name_is_given_once(data: Path, scale: str) -> None:
    twice = [str(data / "frames"), str(data / "frames")]
    with pytest.raises(typer.BadParameter, match="given twice"):
        folders(twice, scale)  # type: ignore[arg-type]


def test_a_data_set_that_no_table_names_is_refused() -> None:
    tables = [Ablation(name="a", title="a", data={"more": Data()})]
    check_tables(["more=x", "main=x", "prw=x", "FOLDER"], tables)
    with pytest.raises(typer.BadParameter, match=r"no table has a data set 'moer'; .*main, .*more"):
        check_tables(["moer=x"], tables)


def test_tables_of_one_name_are_refused() -> None:
    with pytest.raises(typer.BadParameter, match="table 'a' is given twice"):
        check_tables(None, [Ablation(name="a", title="1"), Ablation(name="a", title="2")])
