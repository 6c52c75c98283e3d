"""Cameras: viewpoint, colour cast, saturation, light, blur and noise.

All arithmetic is on whole numbers and tables, so that no machine rounds differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from personsearch.synthetic.drawing import Picture
from personsearch.synthetic.randomness import Random


@dataclass(frozen=True, slots=True)
class Camera:
    """The permanent properties of one camera."""

    index: int  # from zero, as in `Scene.camera`
    seed: int  # of its view, furniture and noise
    place: str  # kind of scenery; see `ObjectClass.places`
    size: tuple[int, int]  # width and height of its pictures
    horizon: float  # row of the horizon as a share of the height
    eye: float  # a person whose feet are `eye` units below the horizon is one unit tall
    far: float  # row where the ground begins, as a share of the height
    near: float  # row of the nearest feet, as a share of the height; above 1 legs are cut off
    gain: tuple[int, int, int]  # factors of blue, green and red in 256ths
    bend: int  # lift (above 0) or drop of the middle tones, in 256ths of a parabola
    saturation: int  # in 256ths
    blur: int  # side of the Gaussian window, 1 for none
    noise: int  # half the range of the sensor's noise, in grey levels

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
        rng = Random(seed, 11, index)
        horizon = rng.hundredths(8, 30)
        eye = rng.hundredths(118, 188) * (1.15 - horizon)
        smallest = rng.randrange(84, 112) / 480
        camera_seed, near = rng.randrange(0, 1 << 31), rng.hundredths(98, 112)
        b, g, r = (part + rng.randrange(-8, 9) for part in _GAINS[index % len(_GAINS)])
        cameras.append(
            Camera(
                index=index,
                seed=camera_seed,
                place=places[index % len(places)],
                size=size,
                horizon=horizon,
                eye=eye,
                far=horizon + smallest * eye,
                near=near,
                gain=(b, g, r),
                bend=rng.randrange(-32, 48),
                saturation=rng.randrange(200, 264),
                blur=rng.pick((0, 1, 1, 2)) * size[1] // 480 * 2 + 1,
                noise=rng.randrange(3, 13),
            )
        )
    return cameras


def expose(picture: Picture, camera: Camera, rng: Random) -> Picture:
    """Return the scene (H, W, 3) as this camera takes it, under random light."""
    table = _tone(camera, rng.randrange(234, 280), rng.randrange(-8, 9))
    taken = cv2.LUT(_saturate(picture, camera.saturation), table)
    if camera.blur > 1:
        taken = cv2.GaussianBlur(taken, (camera.blur, camera.blur), 0)
    lighter, darker = _grain(camera)
    y, x = rng.randrange(0, _SLACK), rng.randrange(0, _SLACK)
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
    factors = np.add(camera.gain, (-warmth, 0, warmth)) * exposure
    table: Picture = np.clip(bent[None, :, None] * factors >> 16, 0, 255).astype(np.uint8)
    return table


_SLACK = 64


@lru_cache(maxsize=16)
def _grain(camera: Camera) -> tuple[Picture, Picture]:
    """Return the noise that is added and that is subtracted, larger than a picture by `_SLACK`."""
    rng = Random(camera.seed, 12)
    shape = (camera.size[1] + _SLACK, camera.size[0] + _SLACK, 3)
    plus, minus = (rng.integers(0, camera.noise + 1, shape, dtype=np.int16) for _ in range(2))
    grain = plus - minus
    return np.clip(grain, 0, 255).astype(np.uint8), np.clip(-grain, 0, 255).astype(np.uint8)
