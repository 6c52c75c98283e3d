"""Files of strangers are decoded elsewhere: the same pixels, and no file harms this process."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from damaged import damage, video
from footage import film
from PIL import Image

from personsearch.errors import PersonSearchError, PictureError
from personsearch.media import apart, pictures
from personsearch.media import video as here
from personsearch.media.damage import UnreadNowError
from personsearch.media.sampling import Sampling

ALL = Sampling(0.0)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def decoder(photo: Path) -> Iterator[int]:
    """The only decoder that waits, which the next file will get."""
    apart.stop_decoders()
    apart.read_picture(photo)
    (pid,) = apart.idle_decoders()
    yield pid
    apart.stop_decoders()


def test_the_pixels_are_those_of_decoding_here(photo: Path, tmp_path: Path) -> None:
    import pillow_heif

    large = Image.open(photo).resize((128, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2025:07:06 05:04:03"
    for name in ("b.jpg", "b.png", "b.webp", "b.bmp", "b.tif", "b.avif", "grey.png", "cmyk.jpg"):
        mode = {"grey.png": "I;16", "cmyk.jpg": "CMYK"}.get(name, "RGB")
        made = Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80) * 16)
        (made if mode == "I;16" else large.convert(mode)).save(tmp_path / name, exif=exif)
    pillow_heif.from_pillow(large).save(tmp_path / "b.heic", exif=exif.tobytes())
    for path in tmp_path.iterdir():
        pixels, taken = pictures.read_photo(path)
        found, times = apart.read_photo(path)
        np.testing.assert_array_equal(found, pixels)
        assert times == taken
        assert taken[0][0] == "2025:07:06 05:04:03" or path.name not in ("b.jpg", "b.heic")
        np.testing.assert_array_equal(apart.decode_picture(path.read_bytes(), "it"), pixels)
    assert apart.APART
    assert apart.idle_decoders() != []


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.ts", "mpeg2video"), ("a.avi", "mpeg4"), ("a.mkv", "ffv1")],
)
def test_the_frames_are_those_of_decoding_here(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    video(path, codec) if codec != "ffv1" else film(path)
    expected = list(here.play(path, lambda *_: True))
    found = list(apart.play(path, ALL))
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[2], other[2])
    known = frozenset({0, 3})
    assert [one[0] for one in apart.play(path, Sampling(frames=3), known)][:2] == [6, 9]
    np.testing.assert_array_equal(apart.read_frame(path, 5), here.read_frame(path, 5))
    part = {"rate": 25, "width": 32}
    for mine, other in zip(
        apart.play_part(path, 0.5, 1.0, **part), here.play_part(path, 0.5, 1.0, **part), strict=True
    ):
        assert mine[0] == other[0]
        np.testing.assert_array_equal(mine[1], other[1])


def test_damaged_files_have_the_errors_of_decoding_here(tmp_path: Path) -> None:
    for name in damage(tmp_path):
        path = tmp_path / name
        photo = path.suffix in pictures.SUFFIXES
        with pytest.raises(PictureError) as expected:
            list(here.play(path, lambda *_: True)) if not photo else pictures.read_picture(path)
        with pytest.raises(PictureError) as caught:
            list(apart.play(path, ALL)) if not photo else apart.read_picture(path)
        assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGSEGV, PictureError), (signal.SIGKILL, UnreadNowError)]
)
def test_a_decoder_that_dies_costs_one_file(
    photo: Path, decoder: int, number: int, kind: type[Exception]
) -> None:
    os.kill(decoder, signal.SIGSTOP)

    def end() -> None:
        time.sleep(0.3)
        os.kill(decoder, number)
        os.kill(decoder, signal.SIGCONT)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(
        PictureError, match=rf"a\.png: its decoder was ended by signal {number}"
    ) as e:
        apart.read_picture(photo)
    ending.join()
    assert type(e.value) is kind
    assert apart.idle_decoders() == []
    assert apart.read_picture(photo).shape == (40, 60, 3)


def test_a_decoder_that_dies_within_a_video_gives_what_was_read(
    tmp_path: Path, decoder: int
) -> None:
    frames = apart.play(film(tmp_path / "a.mkv", 40), ALL)
    assert next(frames)[0] == 0
    os.kill(decoder, signal.SIGABRT)
    with pytest.raises(PictureError, match=r"a\.mkv: its decoder was ended by signal 6"):
        list(frames)


def test_a_decoder_that_hangs_is_ended(
    photo: Path, decoder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 0.3)
    os.kill(decoder, signal.SIGSTOP)
    with pytest.raises(PictureError, match=r"a\.png: took more than 0\.3 seconds") as caught:
        apart.read_picture(photo)
    assert type(caught.value) is PictureError
    assert not running(decoder)
    monkeypatch.undo()
    assert apart.read_picture(photo).shape == (40, 60, 3)


def test_a_decoder_that_hangs_is_left_when_its_run_stops(
    photo: Path, decoder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 3600.0)
    os.kill(decoder, signal.SIGSTOP)
    stop, heard = threading.Event(), []

    def read() -> None:
        apart.stop_by(stop)
        for _ in range(2):  # the next decoder is not waited for either
            try:
                apart.read_picture(photo)
            except PersonSearchError as error:
                heard.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    wait_for(lambda: apart.idle_decoders() == [])
    stop.set()
    reading.join()
    assert [str(one) for one in heard] == [
        f"{photo}: was left because this run stops",
        "a decoder of pictures cannot be started: was left because this run stops",
    ]
    assert isinstance(heard[0], UnreadNowError)
    assert not running(decoder)
    assert apart.read_picture(photo).shape == (40, 60, 3)  # by another thread


def test_memory_without_bound_is_the_files_error(photo: Path, decoder: int) -> None:
    large = photo.with_name("b.bmp")
    Image.new("RGB", (8000, 8000)).save(large)
    taken = int(Path(f"/proc/{decoder}/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.prlimit(decoder, resource.RLIMIT_AS)  # type: ignore[attr-defined]
    resource.prlimit(decoder, resource.RLIMIT_AS, (taken + (50 << 20), most))  # type: ignore[attr-defined]
    with pytest.raises(PictureError, match=r"b\.bmp: needs more than 4 GB of memory"):
        apart.read_picture(large)
    assert apart.idle_decoders() == [decoder]
    assert apart.read_picture(photo).shape == (40, 60, 3)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENFILE])
def test_what_the_machine_lacks_is_no_error_of_the_file(
    photo: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    apart.stop_decoders()
    for place in ("subprocess.Popen", "socket.socketpair"):
        with monkeypatch.context() as patched:
            patched.setattr(f"personsearch.media.apart.{place}", fail)
            with pytest.raises(OSError, match=os.strerror(number)):
                apart.read_picture(photo)
    assert apart.read_picture(photo).shape == (40, 60, 3)


def test_too_many_open_files_are_no_error_of_the_file(photo: Path) -> None:
    apart.stop_decoders()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        for spare in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1 + spare, hard))
            with pytest.raises(OSError, match="Too many open files"):
                apart.read_picture(photo)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(taken[0])
    assert apart.read_picture(photo).shape == (40, 60, 3)


@pytest.mark.parametrize(
    "answer",
    [
        {"shape": [10**6, 10**6], "slot": 0},
        {"shape": [10, 10], "slot": 5},
        {"shape": [-1, -1], "slot": 0},
        {"shape": [10, 10]},
        {"shape": [1, 1], "slot": 0, "seconds": float("nan")},
        {"shape": [1, 1], "slot": 0, "seconds": "soon"},
        {"shape": [1, 1], "slot": 0, "taken": [[1, 2, 3]]},
        {"shape": [1, 1], "slot": 0, "taken": [[[], [], []]]},
        {"shape": [1, 1], "slot": 0, "taken": 5},
        {"shape": [1, 1], "slot": 0, "index": -1},
        {},
    ],
)
def test_an_answer_without_sense_costs_one_file(
    photo: Path, decoder: int, monkeypatch: pytest.MonkeyPatch, answer: dict[str, object]
) -> None:
    monkeypatch.setattr(apart, "receive", lambda *_: dict(answer))
    with pytest.raises(PictureError, match=r"a\.png: its decoder gave no sense"):
        apart.read_picture(photo)
    assert not running(decoder)


def test_more_answers_than_expected_cost_one_file(
    photo: Path, decoder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "receive", lambda *_: {"shape": [1, 1], "slot": 0})
    with pytest.raises(PictureError, match=r"a\.png: its decoder gave 2 pictures, expected one"):
        apart.read_picture(photo)
    assert not running(decoder)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("busy", [False, True])
def test_no_decoder_survives_a_killed_process(photo: Path, busy: bool) -> None:
    code = """
import sys, time
from pathlib import Path
from personsearch.media import apart
apart.read_picture(Path(sys.argv[1]))
print(*apart.idle_decoders(), flush=True)
if sys.argv[2] == "True":
    frames = apart.play(Path(sys.argv[3]), apart.Sampling(0.0))
    next(frames)
time.sleep(60)
"""
    path = film(photo.with_name("v.mkv"), 20)
    command = [sys.executable, "-c", code, str(photo), str(busy), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        decoder = int(process.stdout.readline())
        time.sleep(0.3)
        assert running(decoder)
        process.kill()
    wait_for(lambda: not running(decoder))


def test_a_forked_process_leaves_them_alone(photo: Path, decoder: int) -> None:
    reader, writer = os.pipe()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads
        child = os.fork()
    if not child:
        ok = apart.idle_decoders() == [] and apart.read_picture(photo).shape == (40, 60, 3)
        apart.stop_decoders()
        os.write(writer, b"1" if ok else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)
    assert apart.idle_decoders() == [decoder]
    assert apart.read_picture(photo).shape == (40, 60, 3)


def test_many_at_once(photo: Path) -> None:
    expected = pictures.read_picture(photo)
    wrong = []

    def read() -> None:
        for _ in range(5):
            if not np.array_equal(apart.read_picture(photo), expected):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
    assert len(apart.idle_decoders()) <= 4


def test_a_system_without_limits_decodes_here(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart.stop_decoders()
    monkeypatch.setattr(apart, "APART", False)
    np.testing.assert_array_equal(apart.read_picture(photo), pictures.read_picture(photo))
    assert len(list(apart.play(film(tmp_path / "a.mkv", 5), ALL))) == 5
    assert apart.idle_decoders() == []
