"""The shipped TOML and the script that uses it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from personsearch.external.description import read_description

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def test_the_shipped_toml_is_valid() -> None:
    description = read_description(EXAMPLES / "omz_osnet.toml")
    assert description.detector.layout == "ssd"
    assert description.embedder.size is not None


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real samples in ../shared/data")
def test_the_script_finds_the_same_woman_twice(tmp_path: Path) -> None:
    text = (EXAMPLES / "omz_osnet.toml").read_text()
    for name in ("person-detection-0202.xml", "osnet_x0_25_msmt17.onnx"):
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{(DATA / "models" / name).resolve().as_posix()}"')
    networks = tmp_path / "pair.toml"
    networks.write_text(text)
    frames = [str(DATA / "prw-frames" / f"c1s1_00{number}.jpg") for number in (2326, 2351)]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "two_step.py"), str(networks), *frames],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.match(r"\d+ in c1s1_002326.jpg, \d+ in c1s1_002351.jpg\n", done.stdout)
    pairs = [[float(number) for number in re.findall(r"\d+\.(?=[ \]])", line)]
             for line in done.stdout.splitlines()[1:]]  # fmt: skip
    her = min(pairs, key=lambda pair: abs(pair[0] - 778))
    np.testing.assert_allclose(her, [778, 444, 877, 727, 696, 445, 799, 757], atol=4)
