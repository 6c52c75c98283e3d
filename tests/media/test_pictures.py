"""Pictures are untrusted: every kind becomes RGB, or one clear error."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from personsearch.errors import PictureError
from personsearch.media import apart
from personsearch.media import pictures as pictures_module
from personsearch.media.pictures import picture_size, read_picture, read_scene, save_scene
from personsearch.types import Scene

SHARP = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}


def _picture() -> Image.Image:
    """Four quarters: red, green, blue, grey; 32 wide, 16 high."""
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:8, :16, 0], pixels[:8, 16:, 1], pixels[8:, :16, 2] = 250, 250, 250
    pixels[8:, 16:] = 120
    return Image.fromarray(pixels)


def _header(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_every_format_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    _picture().save(path, **SHARP.get(suffix, {}))
    pixels = read_picture(path)
    assert picture_size(path) == (32, 16)
    assert pixels.shape == (16, 32, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(_picture())).mean() < 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]
    expected = _picture() if turned is None else _picture().transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    _picture().save(path, exif=exif, **SHARP.get(suffix, {}))
    pixels = read_picture(path)
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() < 3
    assert picture_size(path) == (pixels.shape[1], pixels.shape[0]) == expected.size


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    _picture().convert(mode).save(path)
    pixels = read_picture(path)
    assert pixels.shape == (16, 32, 3)
    if mode in ("RGBA", "P", "CMYK"):  # the palette has steps of 51
        assert np.abs(pixels.astype(int) - np.asarray(_picture())).mean() < 10
    else:
        assert (np.ptp(pixels, axis=2) == 0).all()
        assert 100 < pixels[12, 24, 0] < 140 or mode == "1"


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 512).astype(np.uint16).reshape(16, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png")[..., 0], ramp >> 8)


def test_a_transparent_palette_is_read(tmp_path: Path) -> None:
    _picture().convert("P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert read_picture(tmp_path / "a.png").shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"", r"is empty \(0 bytes\)"),
        ("a.png", b"this is no picture", "is not a picture that can be read; expected JPEG"),
        ("a.gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "is not a picture"),
        ("a.png", _header(30_000, 30_000), "too large.*900000000.*80,000,000"),
        ("a.png", _header(10_000, 9_000), "10000 x 9000 is 90,000,000 pixels.*80,000,000; scale"),
        ("a.png", _header(8, 8), "truncated or damaged"),
        (
            "a.png",
            _header(2, 2, (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000))),
            "cannot be opened",
        ),
    ],
)
def test_what_cannot_be_read_says_so(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_picture, picture_size):
        with pytest.raises(PictureError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_files_and_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no such picture"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(PictureError, match="is a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_truncated_pictures_say_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(PictureError, match=f"a.{suffix}"):
            read_picture(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_damaged_pictures_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    path, rng = tmp_path / f"a.{suffix}", np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture().save(path, **({} if suffix == "bmp" else {"exif": exif}))
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 200), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        for read in (read_picture, picture_size):
            # Any other error, or a warning, fails the test.
            with contextlib.suppress(PictureError):
                read(path, 10**6)


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    _picture().save(tmp_path / "a.png")
    assert picture_size(tmp_path / "a.png", max_pixels=512) == (32, 16)
    with pytest.raises(PictureError, match="32 x 16 is 512 pixels, the limit is 511"):
        read_picture(tmp_path / "a.png", max_pixels=511)


def _scene(path: Path, frame: int | None = None) -> Scene:
    return Scene("a", path, (32, 16), np.zeros((0, 4)), np.zeros(0, np.int64), frame=frame)  # type: ignore[arg-type]


def test_a_scene_is_its_picture_or_its_frame(tmp_path: Path) -> None:
    import cv2

    _picture().save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_scene(_scene(tmp_path / "a.png")), np.asarray(_picture()))
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), code, 5, (32, 16))
    for level in (0, 80, 160):
        writer.write(np.full((16, 32, 3), level, dtype=np.uint8))
    writer.release()
    frame = read_scene(_scene(tmp_path / "v.avi", frame=2))
    assert frame.shape == (16, 32, 3)
    assert abs(float(frame.mean()) - 160) < 4
    with pytest.raises(PictureError, match="no frame 3"):
        read_scene(_scene(tmp_path / "v.avi", frame=3))


@pytest.mark.parametrize(("source", "target"), [("a.png", "b.PNG"), ("a.jpeg", "b.jpg")])
def test_a_picture_of_the_same_kind_is_saved_byte_for_byte(
    source: str, target: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture().save(tmp_path / source, exif=exif)
    save_scene(_scene(tmp_path / source), tmp_path / target)
    assert (tmp_path / target).read_bytes() == (tmp_path / source).read_bytes()


def test_a_picture_of_another_kind_is_saved_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture().save(tmp_path / "a.png", exif=exif)
    save_scene(_scene(tmp_path / "a.png"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as saved:
        assert (saved.format, saved.size) == ("JPEG", (16, 32))
        assert 0x0112 not in saved.getexif()
    upright = read_picture(tmp_path / "a.png").astype(int)
    assert np.abs(read_picture(tmp_path / "b.jpg") - upright).mean() < 10


def test_a_frame_is_saved_as_a_picture(tmp_path: Path) -> None:
    import cv2

    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), code, 5, (32, 16))
    for level in (0, 160):
        writer.write(np.full((16, 32, 3), level, dtype=np.uint8))
    writer.release()
    scene = _scene(tmp_path / "v.avi", frame=1)
    save_scene(scene, tmp_path / "f.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "f.png"), read_scene(scene))


@pytest.mark.parametrize("target", ["b.png", "b.jpg"])
def test_what_cannot_be_read_is_not_saved(target: str, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no such picture"):
        save_scene(_scene(tmp_path / "a.png"), tmp_path / target)
    (tmp_path / "a.png").write_bytes(b"this is no picture")
    with pytest.raises(PictureError, match="is not a picture"):
        save_scene(_scene(tmp_path / "a.png"), tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pictures_of_phones(suffix: str, orientation: int, tmp_path: Path) -> None:
    import pillow_heif

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    large = _picture().resize((128, 64), Image.Resampling.NEAREST)
    if suffix == "heic":
        pillow_heif.from_pillow(large).save(path, quality=95, exif=exif.tobytes())
    else:
        large.save(path, quality=95, exif=exif)
    pixels = read_picture(path)
    expected = np.asarray(
        large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_270)
    )
    assert pixels.shape == expected.shape
    assert picture_size(path) == (pixels.shape[1], pixels.shape[0])
    assert np.abs(pixels.astype(int) - expected).mean() < 8
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=f"a.{suffix}"):
        read_picture(path)


def test_what_is_missing_for_pictures_of_phones_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(pictures_module, "_formats", lambda: ["JPEG", "PNG"])
    with pytest.raises(PictureError, match=r"is HEIC, which needs pillow-heif: pip install .*heic"):
        read_picture(path)


def _many_scans(count: int, *, progressive: bool) -> bytes:
    """A JPEG of 64 x 64 whose first scan is repeated."""
    written = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(written, "JPEG", progressive=progressive)
    whole = written.getvalue()
    if not progressive:  # its scan has all colors: a scan of one follows
        begin = whole.index(b"\xff\xda")
        whole = whole[:begin] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + whole[begin + 14 :]
    first = whole.index(b"\xff\xda")
    second = whole.find(b"\xff\xda", first + 2)
    scan = whole[first : second if progressive else -2]
    return whole[:first] + scan * count + (whole[second:] if progressive else whole[-2:])


@pytest.mark.timeout(10)
@pytest.mark.parametrize("progressive", [True, False])
def test_thousands_of_scans_are_refused_before_they_are_decoded(
    progressive: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(_many_scans(10_000, progressive=progressive))
    for read in (read_picture, apart.read_picture):
        with pytest.raises(PictureError, match=r"a\.jpg: has more than 100 scans, which no camera"):
            read(path)
    with pytest.raises(PictureError, match="it: has more than 100 scans"):
        apart.decode_picture(path.read_bytes(), "it")
    path.write_bytes(_many_scans(3, progressive=progressive))
    assert read_picture(path).shape == (64, 64, 3)


def test_scans_are_counted_in_the_picture_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 200
    path = tmp_path / "a.jpg"
    _picture().save(path, progressive=True, exif=exif, comment=b"\xff\xda" * 200)
    # Phones put a video behind a photo.
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 200)
    assert read_picture(path).shape == (16, 32, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_a_turned_tiff_of_any_mode_is_upright(mode: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _picture().convert(mode).save(tmp_path / "a.tif", exif=exif)
    assert read_picture(tmp_path / "a.tif").shape == (32, 16, 3)
    assert picture_size(tmp_path / "a.tif") == (16, 32)
