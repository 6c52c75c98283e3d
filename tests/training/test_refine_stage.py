"""RDLR's refinement trains the detector alone, with any re-ID network that fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from personsearch.datasets.dataset import Dataset
from personsearch.errors import RecipeError
from personsearch.training.checkpoint import load_tensors
from personsearch.training.loop import Trainer
from personsearch.training.recipe import Recipe, make_recipe
from personsearch.types import Scene


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"system": "rdlr", "iterations": 0, "lr": 0.01, "backbone": "small"}
    values |= {"backbone_width": 4, "min_size": 64, "max_size": 96, "crop_size": [32, 16]}
    values |= {"pyramid_channels": 8, "head_depth": 1, "anchor_sizes": [16, 25, 40]}
    values |= {
        "aspect_ratios": [2.5],
        "rpn_post_nms_top_n_train": 40,
        "rpn_post_nms_top_n_test": 20,
    }
    values |= {"rpn_batch_size_per_image": 32, "roi_size": [4, 2], "rois_per_image": 16}
    values |= {"detection_hidden": 16, "score_threshold": 0.0, "match_iou": 0.1}
    values |= {"loader_workers": 0, "images_per_iteration": 2, "precision": "float32"}
    values |= {"validation_fraction": 0.0, "clip_norm": 10.0, "reid_padding": 1}
    values |= {"reid_batch_ids": 3, "reid_batch_shots": 2}
    return make_recipe(values | changes)


PAIR: dict[str, Any] = {"detection_iterations": 2, "detection_lr": 0.01}
PAIR |= {"reid_iterations": 2, "reid_lr": 0.01}


def _dataset(folder: Path, identities: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(6):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(path)
        boxes = np.array([[8, 10, 24, 50], [60, 12, 76, 52]], np.float32)
        ids = np.array([number % identities, (number + 1) % identities])
        scenes.append(Scene(f"s{number}", path, (96, 64), boxes, ids))
    return Dataset("drawn", folder, {"train": scenes}, {})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A data set, and a run that trained detector and re-ID network and refined nothing."""
    folder = tmp_path_factory.mktemp("pair")
    dataset = _dataset(folder)
    trainer = Trainer(_recipe(**PAIR), dataset, folder / "run")
    assert [stage.name for stage in trainer.stages] == ["detection", "re-identification"]
    trainer.run()
    return dataset, folder / "run"


@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_three_steps_one_after_the_other(tmp_path: Path, detector: str) -> None:
    trainer = Trainer(
        _recipe(iterations=2, detector=detector, **PAIR), _dataset(tmp_path), tmp_path / "run"
    )
    moved: list[set[str]] = []
    for index in range(3):
        before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.out.mkdir(exist_ok=True)
        trainer._run_stage(index, 0, {})
        after = trainer.model.state_dict()
        moved.append({k.split(".")[0] for k, v in before.items() if not torch.equal(after[k], v)})
    assert moved[0] == {"trunk", "detector"}
    assert moved[1] == {"reid"}
    assert moved[2] == {"trunk", "detector", "proxies"}


def test_the_refinement_goes_on_from_the_pair(pair: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, run = pair
    trainer = Trainer(_recipe(iterations=2, init=str(run)), dataset, tmp_path / "run")
    assert [stage.name for stage in trainer.stages] == ["refinement"]
    before, state = load_tensors(run), trainer.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    trainer.run()
    after = load_tensors(tmp_path / "run")
    assert all(torch.equal(after[k], v) for k, v in before.items() if k.startswith("reid."))
    assert any(not torch.equal(after[k], v) for k, v in before.items() if k.startswith("trunk."))


def test_a_reid_network_of_another_data_set(pair: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, identities=5)
    settings = {"iterations": 1, "reid_init": str(pair[1])}
    with pytest.raises(RecipeError, match="knows other identities than this data set"):
        Trainer(_recipe(**settings), dataset, tmp_path / "both").run()
    trainer = Trainer(_recipe(reid_loss="proxy_triplet", **settings), dataset, tmp_path / "run")
    trainer.run()
    other, own = load_tensors(pair[1]), load_tensors(tmp_path / "run")
    shared = [k for k in own if k.startswith("reid.") and not k.startswith("reid.classifier.")]
    assert all(torch.equal(own[k], other[k]) for k in shared)


def test_a_reid_network_with_another_embedding_size(
    pair: tuple[Dataset, Path], tmp_path: Path
) -> None:
    dataset, run = pair
    recipe = _recipe(iterations=1, reid_init=str(run), reid_dim=24)
    with pytest.raises(RecipeError, match=r"does not fit: embedder\.weight is nothing, expected"):
        Trainer(recipe, dataset, tmp_path / "run").run()
