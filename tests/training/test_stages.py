"""What each stage shows, for how long, and at which learning rate."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from staged import assert_same, crop_stage, draw_scenes, rates, scene_stage, small_recipe

from personsearch.errors import DataError, PictureError, RecipeError
from personsearch.training.catalogue import SYSTEMS
from personsearch.training.pairs import PairSampler
from personsearch.training.recipe import stage_constructors
from personsearch.training.samplers import IdentitySampler, RandomSampler, SceneSampler
from personsearch.training.stages import Stage, make_stages
from personsearch.training.training_set import Batch
from personsearch.types import Scene


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    return draw_scenes(tmp_path_factory.mktemp("pictures"))


def test_a_constant_rate_after_a_linear_warm_up(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, lr=0.8, warmup=4, schedule="constant")
    assert rates(stage) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [0.8] * 6)


def test_a_rate_that_decays_in_steps(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, lr=1.0, warmup=2, decay_at=[4, 7], decay_factor=0.1)
    expected = [0.5, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    assert rates(stage) == pytest.approx(expected)


def test_a_rate_without_decay_stays(scenes: list[Scene]) -> None:
    assert rates(scene_stage(scenes, lr=0.3)) == [0.3] * 10


def test_a_rate_that_falls_along_half_a_cosine(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, lr=2.0, warmup=2, schedule="cosine")
    expected = [1.0, 2.0] + [1.0 + math.cos(math.pi * k / 8) for k in range(8)]
    assert rates(stage) == pytest.approx(expected)
    assert stage.learning_rate(6) == pytest.approx(1.0)


def test_a_rate_that_falls_as_tensorflow_s_linear_cosine_decay(scenes: list[Scene]) -> None:
    got = rates(scene_stage(scenes, lr=2.0, schedule="linear-cosine"))
    # (alpha + linear) * cosine + beta by hand, at the start, at half and at nine tenths.
    assert got[0] == pytest.approx(2.0 * 1.001)
    assert got[5] == pytest.approx(2.0 * (0.5 * 0.5 + 0.001))
    assert got[9] == pytest.approx(2.0 * (0.1 * 0.0244717419 + 0.001), rel=1e-6)


def test_a_warm_up_as_long_as_the_stage(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, lr=1.0, warmup=10, schedule="cosine")
    assert rates(stage) == pytest.approx([k / 10 for k in range(1, 11)])


def test_the_stages_are_those_that_the_recipe_asks_for(scenes: list[Scene]) -> None:
    assert [s.name for s in make_stages(small_recipe(), scenes)] == ["scenes"]
    both = make_stages(small_recipe(crop_iterations=6, crop_lr=0.1, accumulate=3), scenes)
    assert [(s.name, s.iterations, s.accumulate) for s in both] == [
        ("crops", 6, 1),
        ("scenes", 10, 3),
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", ["random", "identity"])
def test_batches_from_the_middle_are_those_of_a_run_from_the_start(
    scenes: list[Scene], sampler: str, workers: int
) -> None:
    changes = {"sampler": sampler, "accumulate": 2, "color_jitter": 0.3, "scale_jitter": 0.2}
    whole = list(scene_stage(scenes, erase=0.5, **changes).batches(0, 0, 1))
    assert len(whole) == 20
    late = list(scene_stage(scenes, erase=0.5, loader_workers=workers, **changes).batches(7, 0, 1))
    assert len(late) == 6
    for a, b in zip(whole[14:], late, strict=True):
        assert_same(a, b)


def test_batches_differ_between_iterations_and_seeds(scenes: list[Scene]) -> None:
    first = [batch.names for batch in scene_stage(scenes).batches(0, 0, 1)]
    other = [batch.names for batch in scene_stage(scenes, seed=1).batches(0, 0, 1)]
    assert len(set(map(tuple, first))) > 1
    assert first != other


def test_making_batches_draws_nothing_from_the_networks_generator(scenes: list[Scene]) -> None:
    for workers in (0, 1):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        next(scene_stage(scenes, loader_workers=workers).batches(0, 0, 1))
        next(crop_stage(scenes).batches(0, 0, 1))
        assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_each_batch(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, images_per_iteration=4)
    whole = list(stage.batches(3, 0, 1))
    halves = [list(stage.batches(3, rank, 2)) for rank in (0, 1)]
    for joined, a, b in zip(whole, *halves, strict=True):
        assert_same(joined, Batch(a.images + b.images, a.targets + b.targets, a.names + b.names))


def test_a_batch_that_the_processes_cannot_share_is_an_error(scenes: list[Scene]) -> None:
    message = r"a batch has 2 pictures, .* multiple of 3 .*images_per_iteration"
    with pytest.raises(RecipeError, match=message):
        scene_stage(scenes).batches(0, 0, 3)


def test_a_batch_larger_than_the_data_is_an_error(scenes: list[Scene]) -> None:
    with pytest.raises(DataError, match=r"batch of 7 pictures .* training set has 6"):
        scene_stage(scenes, images_per_iteration=7)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_one_clear_line(
    scenes: list[Scene], tmp_path: Path, workers: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(scenes[0].path.read_bytes()[:200])
    bad = Scene("bad", broken, (96, 64), scenes[0].boxes, scenes[0].ids)
    stage = scene_stage([scenes[0], bad], loader_workers=workers)
    with pytest.raises(PictureError, match=r"broken\.png") as caught:
        list(stage.batches(0, 0, 1))
    assert "\n" not in str(caught.value)


def test_every_stage_implements_the_interface_under_its_name_in_the_catalogue() -> None:
    for system, entry in SYSTEMS.items():
        stages = stage_constructors(system)
        assert all(issubclass(stage, Stage) for stage in stages)
        assert tuple(stage.name for stage in stages) == entry.stages


def test_the_main_stage_has_all_losses_of_the_system(scenes: list[Scene]) -> None:
    stage = scene_stage(scenes, anchor_sizes=[16, 32], min_size=64, max_size=96)
    model = stage.recipe.build(3)
    batch = next(stage.batches(0, 0, 1)).to(torch.device("cpu"))
    losses = stage.losses(model, batch.images, batch)
    assert set(losses) == {"rpn_objectness", "rpn_box", "detection", "box", "oim"}


def test_a_stage_without_iterations_is_left_out_and_one_has_to_stay(scenes: list[Scene]) -> None:
    changes: dict[str, Any] = {"crop_iterations": 3, "crop_lr": 0.1}
    crops_only = make_stages(small_recipe(iterations=0, **changes), scenes)
    assert [stage.name for stage in crops_only] == ["crops"]
    assert [s.name for s in make_stages(small_recipe(), scenes)] == ["scenes"]
    with pytest.raises(RecipeError, match="every stage of the recipe has 0 iterations"):
        make_stages(small_recipe(iterations=0), scenes)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [("random", RandomSampler), ("identity", IdentitySampler), ("pairs", PairSampler)],
)
def test_the_recipe_chooses_the_sampler(
    scenes: list[Scene], sampler: str, expected: type[SceneSampler]
) -> None:
    assert type(scene_stage(scenes, sampler=sampler).sampler) is expected


def test_biases_have_a_rate_and_a_decay_of_their_own(scenes: list[Scene]) -> None:
    layer = torch.nn.Linear(2, 2)
    cases: tuple[tuple[dict[str, Any], list[float], list[float]], ...] = (
        ({}, [1.0], [0.5]),
        ({"bias_decay": False}, [1.0, 1.0], [0.5, 0.0]),
        ({"bias_lr_factor": 2.0}, [1.0, 2.0], [0.5, 0.5]),
        ({"bias_lr_factor": 2.0, "bias_decay": False, "optimizer": "adam"}, [1.0, 2.0], [0.5, 0.0]),
    )
    for changes, factors, decays in cases:
        stage = scene_stage(scenes, weight_decay=0.5, **changes)
        groups = stage.make_optimizer(list(layer.parameters()), [layer.bias]).param_groups
        assert [group.get("lr_factor", 1.0) for group in groups] == factors
        assert [group["weight_decay"] for group in groups] == decays
        assert sum(len(group["params"]) for group in groups) == 2
        assert groups[-1]["params"][-1] is layer.bias
