"""Scenes and queries go through a model in batches, and come back as if one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from personsearch.datasets.galleries import Excluding
from personsearch.errors import DataError, PictureError
from personsearch.evaluation.runner import (
    detect_scenes,
    embed_queries,
    embed_scenes,
    gallery_scenes,
    ground_truth_detections,
)
from personsearch.media.pictures import read_picture
from personsearch.systems.base import PersonSearchModel, Target
from personsearch.systems.inference import to_tensor
from personsearch.training.recipe import make_recipe
from personsearch.types import Detections, Query, Scene, SearchProtocol

SIZES = [(96, 64), (64, 96), (96, 64), (80, 80), (96, 64), (64, 96)]  # width, height


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Pictures of several sizes; the one at 2 shows nobody."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    made = []
    for number, (width, height) in enumerate(SIZES):
        path = folder / f"{number}.png"
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(path)
        count = 0 if number == 2 else 1 + number % 3
        x, y = rng.uniform(0, 30, count), rng.uniform(0, 20, count)
        boxes = np.stack([x, y, x + 14, y + 36], axis=1).astype(np.float32)
        boxes.setflags(write=False)
        ids = np.arange(count, dtype=np.int64)
        made.append(Scene(f"scene {number}", path, (width, height), boxes, ids))
    return made


@pytest.fixture(scope="module")
def model() -> PersonSearchModel:
    torch.manual_seed(0)
    values: dict[str, Any] = {"system": "oim", "iterations": 1, "lr": 0.1, "backbone": "small"}
    values |= {"backbone_width": 8, "embedding_dim": 16, "queue_size": 4, "roi_size": [8, 4]}
    values |= {"min_size": 64, "max_size": 96, "anchor_sizes": [16, 32], "score_threshold": 0.0}
    values |= {"rpn_post_nms_top_n_test": 12, "max_detections": 10}
    return make_recipe(values).build(3)


def picture_of(scene: Scene) -> Tensor:
    return to_tensor(read_picture(scene.path))


def protocol_of(scenes: Sequence[Scene], rows: Sequence[tuple[int, int]]) -> SearchProtocol:
    """One query a (scene, row), each with all other scenes as its gallery."""
    queries = [Query(scenes[s].name, scenes[s].boxes[r], int(scenes[s].ids[r])) for s, r in rows]
    galleries = [[scene.name for scene in scenes if scene.name != q.scene] for q in queries]
    targets: list[dict[str, Any]] = [{} for _ in queries]
    return SearchProtocol(name="all", queries=queries, galleries=galleries, targets=targets)


def assert_near(a: Detections, b: Detections) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    np.testing.assert_allclose(a.embeddings, b.embeddings, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_what_is_detected_does_not_depend_on_the_batch_size(
    model: PersonSearchModel, scenes: list[Scene], batch_size: int
) -> None:
    found = detect_scenes(model, scenes, batch_size=batch_size, precision="float32")
    assert list(found) == [scene.name for scene in scenes]
    for scene in scenes:
        with torch.inference_mode():
            alone = model.eval().detect([picture_of(scene)])[0]
        assert len(alone) > 0
        assert_near(found[scene.name], alone)


def test_queries_are_embedded_as_each_would_be_alone(
    model: PersonSearchModel, scenes: list[Scene]
) -> None:
    # Queries of one scene are not side by side, and their order is not that of the scenes.
    protocol = protocol_of(scenes, [(5, 2), (0, 0), (5, 0), (1, 1), (4, 1), (5, 1), (3, 0)])
    for batch_size in (1, 2, 8):
        embedded = embed_queries(
            model, protocol, scenes, batch_size=batch_size, precision="float32"
        )
        assert embedded.dtype == np.float32
        assert embedded.shape == (7, model.embedding_dim)
        for row, query in zip(embedded, protocol.queries, strict=True):
            scene = next(s for s in scenes if s.name == query.scene)
            with torch.inference_mode():
                alone = model.embed([picture_of(scene)], [torch.tensor(query.box)[None]])[0]
            np.testing.assert_allclose(row, alone[0].numpy(), atol=1e-4)
            assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)


def test_each_query_scene_is_read_once(
    model: PersonSearchModel, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    from personsearch.evaluation import runner

    read: list[str] = []
    original = runner.read_scene
    monkeypatch.setattr(
        runner, "read_scene", lambda scene: read.append(scene.name) or original(scene)
    )
    embed_queries(model, protocol_of(scenes, [(5, 2), (0, 0), (5, 0)]), scenes)
    assert sorted(read) == ["scene 0", "scene 5"]


def test_no_queries_have_no_embeddings(model: PersonSearchModel, scenes: list[Scene]) -> None:
    assert embed_queries(model, protocol_of(scenes, []), scenes).shape == (0, 16)


def test_a_query_of_a_scene_that_was_not_given_is_named(
    model: PersonSearchModel, scenes: list[Scene]
) -> None:
    protocol = protocol_of(scenes, [(0, 0), (5, 0)])
    with pytest.raises(DataError, match="'all': query scene 'scene 5' is not among the 5"):
        embed_queries(model, protocol, scenes[:5])


def test_true_boxes_become_detections_of_score_one(
    model: PersonSearchModel, scenes: list[Scene]
) -> None:
    found = ground_truth_detections(model, scenes, precision="float32")
    assert list(found) == [scene.name for scene in scenes]
    for scene in scenes:
        detections = found[scene.name]
        np.testing.assert_array_equal(detections.boxes, scene.boxes)
        np.testing.assert_array_equal(detections.scores, np.ones(len(scene.boxes)))
        with torch.inference_mode():
            alone = model.embed([picture_of(scene)], [torch.tensor(scene.boxes)])[0]
        np.testing.assert_allclose(detections.embeddings, alone.numpy(), atol=1e-4)
    assert found["scene 2"].embeddings.shape == (0, 16)


def test_only_empty_scenes_are_no_trouble(model: PersonSearchModel, scenes: list[Scene]) -> None:
    assert embed_scenes(model, scenes[2:3], [scenes[2].boxes])[0].shape == (0, 16)
    assert detect_scenes(model, []) == {}
    assert ground_truth_detections(model, []) == {}


def test_the_progress_counts_every_picture(model: PersonSearchModel, scenes: list[Scene]) -> None:
    told: list[tuple[int, int]] = []
    detect_scenes(model, scenes, batch_size=2, progress=lambda *t: told.append(t))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (6, 6)
    assert {total for _, total in told} == {6}


def test_a_model_in_training_runs_as_in_evaluation_and_stays_as_it_is(
    model: PersonSearchModel, scenes: list[Scene]
) -> None:
    expected = detect_scenes(model.eval(), scenes[:1])[scenes[0].name]
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    found = detect_scenes(model, scenes[:1])[scenes[0].name]
    assert np.array_equal(found.boxes, expected.boxes)
    embed_scenes(model, scenes[:1], [scenes[0].boxes])
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_picture_that_is_gone_is_named(model: PersonSearchModel, scenes: list[Scene]) -> None:
    gone = Scene("gone", Path("nowhere/gone.png"), (96, 64), scenes[0].boxes, scenes[0].ids)
    with pytest.raises(PictureError, match=r"gone\.png"):
        detect_scenes(model, [*scenes, gone])


class Fixed(PersonSearchModel):
    """Needs no parameters; says at which precision it ran."""

    embedding_dim = 2

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        raise NotImplementedError

    def detect(self, images: list[Tensor]) -> list[Detections]:
        precise = float((torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32)
        return [Detections([[0, 0, 8, 8]], [precise], [[1.0, 0.0]]) for _ in images]

    def embed(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return [torch.ones(len(b), 2, dtype=torch.bfloat16) for b in boxes]


def test_a_system_without_parameters_runs_at_the_precision_asked_for(
    scenes: list[Scene],
) -> None:
    for precision, score in (("float32", 1.0), ("bfloat16", 0.0)):
        found = detect_scenes(Fixed(), scenes[:2], precision=precision)
        assert [float(d.scores[0]) for d in found.values()] == [score, score]
    assert ground_truth_detections(Fixed(), scenes[:1])["scene 0"].embeddings.dtype == np.float32


def test_the_gallery_is_what_any_query_searches(scenes: list[Scene]) -> None:
    protocol = protocol_of(scenes[:3], [(0, 0), (1, 0)])
    assert [s.name for s in gallery_scenes(protocol, scenes)] == ["scene 0", "scene 1", "scene 2"]
    one = protocol_of(scenes[3:], [(1, 0)])
    assert [s.name for s in gallery_scenes(one, scenes)] == ["scene 3", "scene 5"]
    assert gallery_scenes(protocol_of(scenes, []), scenes) == []


def test_a_scene_that_every_gallery_leaves_out_is_not_in_any(scenes: list[Scene]) -> None:
    names = [scene.name for scene in scenes]
    for hidden, expected in [
        (["scene 0", "scene 1"], names),
        (["scene 1", "scene 1"], [n for n in names if n != "scene 1"]),
    ]:
        protocol = protocol_of(scenes, [(0, 0), (1, 0)])
        galleries = [Excluding(names, frozenset([name])) for name in hidden]
        object.__setattr__(protocol, "galleries", galleries)
        assert [s.name for s in gallery_scenes(protocol, scenes)] == expected


def test_lazy_galleries_made_anew_each_time_are_all_read(scenes: list[Scene]) -> None:
    class Lazy(Sequence[Sequence[str]]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: Any) -> Any:
            if index >= 3:
                raise IndexError
            return [f"scene {index}", f"scene {index + 3}"]

    protocol = protocol_of(scenes, [(0, 0), (1, 0), (4, 0)])
    object.__setattr__(protocol, "galleries", Lazy())
    assert [s.name for s in gallery_scenes(protocol, scenes)] == [s.name for s in scenes]
