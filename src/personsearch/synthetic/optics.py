"""Cameras: viewpoint, colour cast, saturation, light, blur and noise.

All arithmetic is on whole numbers and tables, so that no machine rounds differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.synthetic.drawing import Picture, generator


@dataclass(frozen=True, slots=True)
class Camera:
    """The permanent properties of one camera.

    Attributes:
        index: index from zero, as in `Scene.camera`.
        seed: seed of view, furniture and noise.
        place: kind of scenery; see `ObjectClass.places`.
        size: (width, height) of the pictures.
        horizon: row of the horizon as a share of the height.
        eye: height above the ground in people: a person whose feet are `eye` units below the
            horizon is one unit tall in the picture.
        far: row where the ground begins, as a share of the height.
        near: row of the nearest feet, as a share of the height; above 1 legs are cut off.
        gain: factors of blue, green and red in 256ths.
        bend: lift (above 0) or drop of the middle tones, in 256ths of a parabola.
        saturation: saturation in 256ths.
        blur: side of the Gaussian window, 1 for none.
        noise: half the range of the sensor's noise, in grey levels.
    """

    index: int
    seed: int
    place: str
    size: tuple[int, int]
    horizon: float
    eye: float
    far: float
    near: float
    gain: tuple[int, int, int]
    bend: int
    saturation: int
    blur: int
    noise: int

    def unit(self, foot: float) -> float:
        """Return the height in pixels of an average person with the feet at row `foot`."""
        return (foot - self.horizon * self.size[1]) / self.eye


_GAINS = (
    (276, 256, 232),
    (232, 252, 278),
    (256, 256, 256),
    (250, 268, 240),
    (264, 243, 264),
    (240, 258, 252),
    (270, 260, 248),
    (243, 248, 268),
)


def make_cameras(
    count: int, size: tuple[int, int], places: Sequence[str], seed: int
) -> list[Camera]:
    """Return cameras that differ in all properties."""
    cameras = []
    for index in range(count):
        rng = generator(seed, 11, index)
        horizon = int(rng.integers(8, 30)) / 100
        eye = (118 + int(rng.integers(70))) / 100 * (1.15 - horizon)
        smallest = int(rng.integers(84, 112)) / 480
        cameras.append(
            Camera(
                index=index,
                seed=int(rng.integers(1 << 31)),
                place=places[index % len(places)],
                size=size,
                horizon=horizon,
                eye=eye,
                far=horizon + smallest * eye,
                near=int(rng.integers(98, 112)) / 100,
                gain=_jitter(_GAINS[index % len(_GAINS)], rng),
                bend=int(rng.integers(-32, 48)),
                saturation=int(rng.integers(200, 264)),
                blur=(1, 3, 3, 5)[int(rng.integers(4))],
                noise=int(rng.integers(3, 13)),
            )
        )
    return cameras


def _jitter(gain: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    b, g, r = (part + int(rng.integers(-8, 9)) for part in gain)
    return b, g, r


def expose(picture: Picture, camera: Camera, rng: np.random.Generator) -> Picture:
    """Return the scene as this camera takes it, under random light.

    Args:
        picture: (H, W, 3) uint8 blue, green, red as drawn; it is overwritten.
        camera: the camera.
        rng: random numbers for the light of this picture.
    """
    exposure = int(rng.integers(234, 280))
    warmth = int(rng.integers(-8, 9))
    taken = _saturate(picture, camera.saturation)
    taken = np.asarray(cv2.LUT(taken, _tone(camera, exposure, warmth)), dtype=np.uint8)
    if camera.blur > 1:
        window = (camera.blur, camera.blur)
        taken = np.asarray(cv2.GaussianBlur(taken, window, 0), dtype=np.uint8)
    lighter, darker = _grain(camera)
    y, x = int(rng.integers(_SLACK)), int(rng.integers(_SLACK))
    height, width = picture.shape[:2]
    part = (slice(y, y + height), slice(x, x + width))
    noisy: Picture = np.asarray(
        cv2.subtract(cv2.add(taken, lighter[part]), darker[part]), dtype=np.uint8
    )
    return noisy


def _saturate(picture: Picture, saturation: int) -> Picture:
    wide = picture.astype(np.int16)
    grey = (wide[..., 0] * 14 + wide[..., 1] * 75 + wide[..., 2] * 39) >> 7
    # Differences fit in 9 bits and the factor in 6, so 16 bits hold the product.
    wide -= grey[..., None]
    wide *= saturation >> 3
    wide >>= 5
    wide += grey[..., None]
    return np.clip(wide, 0, 255).astype(np.uint8)


def _tone(camera: Camera, exposure: int, warmth: int) -> Picture:
    levels = np.arange(256, dtype=np.int64)
    bent = levels + camera.bend * levels * (255 - levels) // (255 * 256)
    table = np.empty((1, 256, 3), dtype=np.uint8)
    for channel, (gain, sign) in enumerate(zip(camera.gain, (-1, 0, 1), strict=True)):
        factor = (gain + sign * warmth) * exposure
        table[0, :, channel] = np.clip(bent * factor >> 16, 0, 255)
    return table


_SLACK = 64


@lru_cache(maxsize=16)
def _grain(camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = generator(camera.seed, 12)
    width, height = camera.size
    shape = (height + _SLACK, width + _SLACK, 3)
    half = camera.noise + 1
    grain = rng.integers(0, half, shape, dtype=np.int16) - rng.integers(
        0, half, shape, dtype=np.int16
    )
    return np.clip(grain, 0, 255).astype(np.uint8), np.clip(-grain, 0, 255).astype(np.uint8)
