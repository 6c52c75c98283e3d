"""Cached features: what is written is read, row by row; what is not theirs is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from personsearch.errors import DataError
from personsearch.training import feature_cache
from personsearch.training.feature_cache import FeatureCache, Rows, write_features


def _parts() -> list[Rows]:
    generator = torch.Generator().manual_seed(0)
    return [
        Rows(
            torch.randn(count, 4, 3, 2, generator=generator),
            torch.arange(count) + index,
            torch.full((count,), index),
        )
        for index, count in enumerate((3, 0, 1, 5))
    ]


@pytest.mark.parametrize("shard", [1, 200, 2**28])
def test_rows_are_read_as_written(
    tmp_path: Path, shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", shard)
    parts = _parts()
    write_features(tmp_path / "cache", "abc", parts)
    cache = FeatureCache(tmp_path / "cache", "abc")
    features = torch.cat([p.features for p in parts])
    assert len(cache) == 9
    assert torch.equal(cache.ids, torch.cat([p.ids for p in parts]))
    assert torch.equal(cache.scenes, torch.cat([p.scenes for p in parts]))
    for rows in ([0], [8, 0, 3], list(range(9)), [4, 4]):
        assert torch.equal(cache[rows], features[rows])
    files = sorted(f.name for f in (tmp_path / "cache").iterdir())
    assert files[-1] == "people.safetensors"
    assert len(files) == {1: 4, 200: 3, 2**28: 2}[shard]


def test_another_fingerprint_is_refused(tmp_path: Path) -> None:
    write_features(tmp_path / "cache", "a" * 64, _parts())
    with pytest.raises(DataError, match=r"made with another detector.*aaaaaaaaaaaa, expected bb"):
        FeatureCache(tmp_path / "cache", "b" * 64)


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_features(tmp_path / "cache", "a", _parts())
    write_features(tmp_path / "cache", "b", _parts()[:1])
    assert len(FeatureCache(tmp_path / "cache", "b")) == 3
    assert [f.name for f in tmp_path.iterdir()] == ["cache"]


def test_a_stop_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Rows]:
        yield _parts()[0]
        raise KeyboardInterrupt

    write_features(tmp_path / "cache", "a", _parts())
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "cache", "b", broken())
    assert len(FeatureCache(tmp_path / "cache", "a")) == 9
    assert [f.name for f in tmp_path.iterdir()] == ["cache"]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cached features"):
        FeatureCache(tmp_path / "cache", "a")
    with pytest.raises(DataError, match="no labelled people"):
        write_features(tmp_path / "cache", "a", _parts()[1:2])
    write_features(tmp_path / "cache", "a", _parts())
    shard = tmp_path / "cache" / "features-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        FeatureCache(tmp_path / "cache", "a")
    shard.unlink()
    with pytest.raises(DataError, match="damaged: 0 rows of 9 are there"):
        FeatureCache(tmp_path / "cache", "a")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written.*feature_cache"):
        write_features(tmp_path / "file" / "cache", "a", _parts())
