"""Find everyone in two pictures with your own networks, and match them.

python examples/two_step.py examples/omz_osnet.toml first.jpg second.jpg
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from personsearch.media.pictures import read_picture
from personsearch.systems.two_step import from_toml


def as_image(path: Path) -> Tensor:
    """Read a picture as all systems expect it: float32 RGB in 0..1, (3, H, W)."""
    return torch.tensor(read_picture(path)).permute(2, 0, 1).float() / 255


def main() -> None:
    """Print, for each person in the first picture, the most similar one in the second."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", type=Path, help="a TOML that names a detector and an embedder")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    given = parser.parse_args()

    model = from_toml(given.networks)
    first, second = model.detect([as_image(given.first), as_image(given.second)])
    print(f"{len(first)} in {given.first.name}, {len(second)} in {given.second.name}")
    if not len(first) or not len(second):
        return
    similarity = first.embeddings @ second.embeddings.T  # cosine: all rows have unit length
    for box, row in zip(first.boxes, similarity, strict=True):
        best = row.argmax()
        print(f"{box.round()} is most similar to {second.boxes[best].round()}: {row[best]:.3f}")


if __name__ == "__main__":
    main()
