"""`personsearch convert-weights` through its real entry point."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published import published_code
from shell import personsearch as in_this_process

import personsearch
from personsearch.training.checkpoint import restore_matching
from personsearch.training.recipe import read_recipe


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personsearch", "convert-weights", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("nae")
    weights = published_code.published_weights("nae", published_code.our_model("nae"))
    weights["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(2, 2048)
    torch.save({"state_dict": weights}, place / "nae.pth")
    out = place / "nae"
    done = run(
        str(place / "nae.pth"), "--system", "nae", "--out", str(out), "--recipe", "cuhk-sysu/nae"
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_says_which_tensors_matched(converted: tuple[Path, str]) -> None:
    out, said = converted
    lines = said.splitlines()
    assert "roi_heads.reid_loss.cq -> oim.queue.values" in lines
    assert lines[-2].startswith("roi_heads.box_predictor.cls_score.weight: left out, the published")
    assert lines[-1].endswith(f"1 left out; {out} holds recipe cuhk-sysu/nae")
    assert lines[-1].startswith(f"{len(lines) - 2} tensors matched")


def test_the_folder_is_a_model_to_load_and_to_train_from(converted: tuple[Path, str]) -> None:
    out, _ = converted
    assert personsearch.load(out).embedding_dim == 256
    recipe = read_recipe(out / "recipe.toml")
    assert recipe.weights != "none"
    model = recipe.model_copy(update={"weights": "none"}).build(num_ids=9)
    started = restore_matching(model, out)
    assert set(model.state_dict()) - set(started) == {"oim.lookup.values"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.pth", "--system", "nae", "--out", "x"], 1, "error: none.pth: no such weights file"),
        (["none.pth", "--system", "oim", "--out", "x"], 2, "'oim' is not one of"),
        (["none.pth", "--system", "nae"], 2, "Missing option '--out'"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, message: str) -> None:
    done = in_this_process("convert-weights", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
