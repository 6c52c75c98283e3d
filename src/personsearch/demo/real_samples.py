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
from personsearch.errors import AnnotationError, DataError, ModelError
from personsearch.external.description import parse_description
from personsearch.systems.two_step import TwoStep, from_description

PROTOCOL = "every other frame"
"""Name of the one protocol of the PRW frames."""


def read_real_samples(folder: Path) -> list[Dataset]:
    """Read the samples of a folder; raise `DataError` if there are none, or one is damaged."""
    folder = Path(folder)
    readers = {"prw-frames": prw_frames, "pets09": pets09}
    found = [read(folder) for name, read in readers.items() if (folder / name).is_dir()]
    if not found:
        raise DataError(f"{folder}: expected folders prw-frames or pets09 in it, found neither")
    return found


def networks(folder: Path) -> list[Path]:
    """Return the network files in a folder's ``models``, sorted: ``.xml`` and ``.onnx``."""
    files = (Path(folder) / "models").glob("*")
    return sorted(path for path in files if path.suffix in (".xml", ".onnx"))


def sample_networks(folder: Path) -> TwoStep:
    """Load the detector (Open Model Zoo) and embedder (OSNet) in a folder's ``models``.

    Raises:
        ModelError: they are missing, or their runtime is not installed.
    """
    files = networks(folder)
    detectors = [path for path in files if path.name == "person-detection-0202.xml"]
    embedders = [path for path in files if path.match("osnet*.onnx")]
    if not detectors or not embedders:
        raise ModelError(
            f"{Path(folder) / 'models'}: expected person-detection-0202.xml and an osnet*.onnx; "
            f"found {', '.join(path.name for path in files) or 'none'}"
        )
    table = {
        "detector": {
            "file": str(detectors[0].resolve()),
            "size": {"width": 512, "height": 512},
            "color": "bgr",
            "scale": 255,
            "layout": "ssd",
            "class_index": 0,
            "score_threshold": 0.05,
        },
        "embedder": {
            "file": str(embedders[0].resolve()),
            "size": {"width": 128, "height": 256},
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    return from_description(parse_description(table, "sample networks"))


def prw_frames(folder: Path) -> Dataset:
    """Read PRW frames; every labelled box whose id is in another frame is a query.

    The gallery is every other frame, also of the same camera. Boxes are clipped to the frame.

    Raises:
        AnnotationError: the annotations are missing, damaged, or in several files, each of which
            may number people on its own.
        DataError: there are no frames.
    """
    folder = Path(folder)
    pictures, annotations = folder / "prw-frames", folder / "prw-annotations"
    files = sorted(path.name for path in pictures.glob("*.jpg"))
    if not files:
        raise DataError(f"{pictures}: no .jpg frames in it")
    tables = sorted(annotations.glob("*.json"))
    parts = [scenes.read(path, pictures, split="test", only=set(files)) for path in tables]
    parts = [part for part in parts if part.splits]
    if len(parts) != 1:
        raise AnnotationError(
            f"{annotations}: {len(parts) or 'no'} .json files annotate the frames in prw-frames, "
            "expected one"
        )
    frames = sorted(parts[0].split("test"), key=lambda scene: scene.name)
    names = [scene.name for scene in frames]
    galleries = [Excluding(names, frozenset({name})) for name in names]
    missing = [Dropped(file, "frame without annotations") for file in files if file not in names]
    protocols = {PROTOCOL: every_box_protocol(PROTOCOL, frames, galleries)}
    dropped = [*parts[0].dropped, *missing]
    return Dataset("PRW frames", folder, {"test": frames}, protocols, dropped)


def pets09(folder: Path, *, every: int = 25, last: int = 499, gap: int = 200) -> Dataset:
    """Read frames of PETS09 S2L1; every box is a query over all frames far enough away.

    These are the video frames 0, `every`, 2 `every`, ... `last`; `gap` is the smallest number of
    frames between a query and a gallery frame.

    Raises:
        AnnotationError: the ground truth, or the size it was drawn on, is missing or damaged.
        PictureError: the video is missing or damaged.
    """
    root = Path(folder) / "pets09"
    film = mot.read(root, every=every, last=last, apart=gap, camera=1)
    # Without the size, boxes drawn on larger frames would be read as pixels of the video.
    info = mot.sequence_info(root)
    if info.width is None or info.height is None:
        raise AnnotationError(
            f"{root / 'seqinfo.ini'}: has no imWidth and imHeight, expected both in [Sequence]"
        )
    name = f"apart-{gap}"
    return replace(film, name="PETS09 S2L1", protocols={name: film.protocol(name)})
