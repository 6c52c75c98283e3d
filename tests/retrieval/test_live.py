"""Cameras on this machine, which send in real time, break off and come back."""

import time
from pathlib import Path

import numpy as np
import pytest
from blocks import Blocks
from broadcast import Broadcast, over_http, over_rtsp
from torch import Tensor

from personsearch.errors import DataError
from personsearch.retrieval.live import index_streams
from personsearch.retrieval.store import FileStamp, FoundPeople, ModelIdentity, open_store
from personsearch.retrieval.streams import Patience, Stream, parse_stream
from personsearch.types import Detections

MODEL = ModelIdentity("blocks", "c" * 64, 3)
SECRET = "s3cret-word"
SOON = Patience(stall=3.0, pause=0.05, longest=0.2)


def camera(broadcast: Broadcast, secret: str = SECRET) -> Stream:
    return parse_stream(broadcast.address.replace("://", f"://anna:{secret}@"), "gate")


@pytest.mark.parametrize("serve", [over_http, over_rtsp])
def test_a_camera_that_breaks_off_is_connected_again(tmp_path: Path, serve: object) -> None:
    began = time.time()
    with serve(20, 20, 20) as broadcast:  # type: ignore[operator]
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            report = index_streams(
                *(Blocks(), store, [camera(broadcast)]), every=0.1, duration=6.0, patience=SOON
            )
            (stream,) = report.streams
            assert stream.connections >= 2
            assert stream.breaks >= stream.connections - 1
            assert report.pictures == stream.pictures >= 4
            assert report.people == 2 * report.pictures
            known = store.known_files(broadcast.address)
            assert {file.state for file in known.values()} == {"whole"}
            people = store.people(store.embeddings()[0].tolist())
    # Two people, each joined over the breaks to a track of one segment.
    assert report.files == len(known)
    assert len({p.track.id for p in people if p.track}) == 2 * len(known)
    for person in people:
        assert person.camera == "gate"
        assert person.source == broadcast.address
        assert person.time is not None
        assert began < person.time < time.time()
        assert person.position is not None
        assert 0 <= person.position < 60
    assert any(asked for asked in broadcast.asked)  # the password was sent
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert SECRET.encode() not in written
    assert SECRET not in str(report.as_json())


@pytest.mark.parametrize(
    ("shows", "secret", "reason"),
    [((-1,), SECRET, "sent nothing for too long"), ((20,), "wrong", "refuses this user")],
)
def test_why_a_camera_sends_nothing(
    tmp_path: Path, shows: tuple[int, ...], secret: str, reason: str
) -> None:
    with over_http(*shows) as broadcast:
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            report = index_streams(
                *(Blocks(), store, [camera(broadcast, secret)]),
                duration=2.5,
                patience=Patience(stall=0.5, pause=0.05, longest=0.1),
            )
    assert any(one.startswith(reason) for one in report.streams[0].reasons)
    assert report.pictures == 0
    assert broadcast.address not in str(report.streams[0].reasons)


class Slow(Blocks):
    def detect(self, images: list[Tensor]) -> list[Detections]:
        time.sleep(0.5)
        return super().detect(images)


def test_a_slow_network_sees_the_newest(tmp_path: Path) -> None:
    with over_http(200) as broadcast:
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            report = index_streams(
                *(Slow(), store, [camera(broadcast)]), every=0.0, duration=4.0, patience=SOON
            )
    assert report.streams[0].dropped > report.pictures > 0


def test_segments_end_and_are_files_of_their_own(tmp_path: Path) -> None:
    with over_http(100) as broadcast:
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            report = index_streams(
                *(Blocks(), store, [camera(broadcast)]),
                every=0.1,
                duration=5.0,
                segment=1.0,
                patience=SOON,
            )
            known = store.known_files(broadcast.address)
    assert report.files == len(known) >= 2
    assert all(file.state == "whole" and file.frames for file in known.values())
    begins = sorted(file.stamp.changed / 1e9 for file in known.values())
    # Each but the first begins soon after a full second, in a second of its own.
    assert len({int(begin) for begin in begins}) == len(begins)


def test_what_was_left_open_is_finished(tmp_path: Path) -> None:
    with over_http() as broadcast:
        stream = camera(broadcast)
        vector = np.array([[1.0, 0.0, 0.0]], np.float32)
        box, score = np.array([[0, 0, 10, 20]], np.float32), np.array([0.9], np.float32)
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            row = store.begin_file(stream.place, "killed", FileStamp(0, 5), "gate")
            store.add(
                row,
                [
                    FoundPeople((64, 32), box, score, vector, [b""], k, float(k), 9.0 + k)
                    for k in range(9)
                ],
            )
            index_streams(Blocks(), store, [stream], duration=0.5, patience=SOON)
            assert store.known_files(stream.place)["killed"].state == "whole"
            assert store.counts()["tracks"] == 1
            assert store.counts()["people"] == 5


class Pressed(Blocks):
    def detect(self, images: list[Tensor]) -> list[Detections]:
        raise KeyboardInterrupt


def test_ctrl_c_ends_it_whole(tmp_path: Path) -> None:
    with over_http(200) as broadcast:
        with open_store(tmp_path / "store", model=MODEL, write=True) as store:
            report = index_streams(Pressed(), store, [camera(broadcast)], patience=SOON)
    assert report.interrupted
    assert report.pictures == 0


@pytest.mark.parametrize("wrong", [{"segment": 0.0}, {"duration": -1.0}])
def test_impossible_times(tmp_path: Path, wrong: dict[str, float]) -> None:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        with pytest.raises(DataError, match="expected more than 0"):
            index_streams(Blocks(), store, [], **wrong)  # type: ignore[arg-type]
