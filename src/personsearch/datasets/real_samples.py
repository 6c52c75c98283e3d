"""A folder of small real samples, as data sets with protocols: a few PRW frames, PETS09 S2L1.

Nothing of it is shipped; the reader takes a user's own folder:

    prw-frames/*.jpg                frames of PRW
    prw-annotations/*.json          COCO style, with ``person_id`` (-1 or -2: unlabelled)
    pets09/*.avi, gt.txt            the video, and its boxes in MOT format
    pets09/seqinfo.ini              the size of the pictures that ``gt.txt`` was drawn on
    models/*.xml, *.onnx            networks
"""

from dataclasses import replace
from pathlib import Path

from personsearch.datasets import mot, scenes
from personsearch.datasets.dataset import Dataset, Dropped
from personsearch.datasets.galleries import Excluding
from personsearch.datasets.protocols import every_box_protocol
from personsearch.errors import AnnotationError, DataError

PROTOCOL = "every other frame"
"""Name of the one protocol of the PRW frames."""


def read_real_samples(folder: Path) -> list[Dataset]:
    """The samples that a folder holds.

    Raises:
        DataError: it holds none, or one that is damaged.
    """
    folder = Path(folder)
    found = []
    if (folder / "prw-frames").is_dir():
        found.append(prw_frames(folder))
    if (folder / "pets09").is_dir():
        found.append(pets09(folder))
    if not found:
        raise DataError(f"{folder}: expected folders prw-frames or pets09 in it, found neither")
    return found


def networks(folder: Path) -> list[Path]:
    """The network files of a folder's ``models``, sorted: ``.xml`` and ``.onnx``."""
    return sorted(
        path for path in (Path(folder) / "models").glob("*") if path.suffix in (".xml", ".onnx")
    )


def prw_frames(folder: Path) -> Dataset:
    """The PRW frames of a folder. Every labelled box whose id is in another frame is a query.

    The gallery is every other frame, of the same camera too. Boxes are clipped to the frame.

    Raises:
        AnnotationError: the annotations of the frames are missing, damaged, or in several files,
            each of which may number people for itself.
        DataError: there are no frames.
    """
    folder = Path(folder)
    pictures, annotations = folder / "prw-frames", folder / "prw-annotations"
    files = sorted(path.name for path in pictures.glob("*.jpg"))
    if not files:
        raise DataError(f"{pictures}: no .jpg frames in it")
    parts = [
        scenes.read(path, pictures, split="test", only=set(files))
        for path in sorted(annotations.glob("*.json"))
    ]
    parts = [part for part in parts if part.splits]
    if len(parts) != 1:
        raise AnnotationError(
            f"{annotations}: {len(parts) or 'no'} .json in it speaks of the frames in prw-frames, "
            "expected one that does"
        )
    frames = sorted(parts[0].split("test"), key=lambda scene: scene.name)
    names = [scene.name for scene in frames]
    galleries = [Excluding(names, frozenset({name})) for name in names]
    missing = [Dropped(file, "frame without annotations") for file in files if file not in names]
    return Dataset(
        "PRW frames",
        folder,
        {"test": frames},
        {PROTOCOL: every_box_protocol(PROTOCOL, frames, galleries)},
        [*parts[0].dropped, *missing],
    )


def pets09(folder: Path, *, every: int = 25, last: int = 499, gap: int = 200) -> Dataset:
    """Frames of PETS09 S2L1. Every box is a query; its gallery, all frames far enough away.

    Args:
        folder: holds ``pets09``.
        every: take video frames 0, `every`, 2 `every`, ...
        last: up to this one.
        gap: a gallery frame is at least so many frames away from the query's.

    Raises:
        AnnotationError: the ground truth or the size it was drawn on is missing or damaged.
        PictureError: the video is missing or damaged.
    """
    root = Path(folder) / "pets09"
    whole = mot.read(root, every=every, last=last, apart=gap, camera=1)
    # Without the size, the boxes would be taken for those of the smaller video.
    missing = {"imWidth", "imHeight"} - mot.sequence_info(root / "seqinfo.ini").keys()
    if missing:
        raise AnnotationError(
            f"{root / 'seqinfo.ini'}: expected imWidth and imHeight under [Sequence], "
            f"{' and '.join(sorted(missing))} not found"
        )
    name = f"apart-{gap}"
    return replace(whole, name="PETS09 S2L1", protocols={name: whole.protocol(name)})
