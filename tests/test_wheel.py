"""The wheel holds everything that the commands need, without a checkout and without extras."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {
    "openvino": ["openvino"],
    "onnx": ["onnx", "onnxruntime"],
    "parquet": ["pyarrow"],
    "tensorboard": ["tensorboard"],
    "heic": ["pillow_heif"],
    "milvus": ["pymilvus", "milvus_lite"],
    "ray": ["ray"],
    "web": ["fastapi", "uvicorn", "python_multipart", "multipart", "prometheus_client"],
}
"""The modules of each extra."""

BLOCK = """
import sys
from importlib.machinery import PathFinder


class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {modules!r}
        return None if hidden else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
"""

RECIPE = """
system = "oim"
backbone = "small"
backbone_width = 8
iterations = 2
images_per_iteration = 2
lr = 0.001
loader_workers = 0
validation_fraction = 0.0
embedding_dim = 16
min_size = 96
max_size = 128
anchor_sizes = [20, 40]
score_threshold = 0.0
precision = "float32"
"""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([sys.executable, "-m", "pip", *build, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of the installed wheel in a folder that was empty, and return its output.

    The environment sees the packages of this one, but not the source and no extra.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": folder / "venv"}))
    # Folders named in a .pth file are searched, but the .pth files in them are not read: a source
    # tree that is installed in place stays out of sight.
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "shared.pth").write_text("\n".join(shared), encoding="utf-8")
    modules = [module for names in EXTRAS.values() for module in names]
    (site / "sitecustomize.py").write_text(BLOCK.format(modules=modules), encoding="utf-8")
    empty = folder / "empty"
    empty.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PERSONSEARCH_STATE": str(folder / "state")}

    def run(*command: object) -> str:
        words = [str(word) for word in command]
        if words[0] in ("python", "personsearch"):
            words[0] = str(python.with_name(words[0]))
        ran = subprocess.run(
            words, cwd=empty, capture_output=True, text=True, check=False, env=environment
        )
        assert ran.returncode == 0, f"{shlex.join(words)}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    return run


def test_every_extra_is_named_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"dev"}


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "src" / "personsearch"
    with zipfile.ZipFile(wheel) as archive:
        held = {Path(name) for name in archive.namelist()}
    files = [
        path.relative_to(package.parent)
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert [str(path) for path in files if path not in held] == []


def test_it_finds_its_recipes_and_ablations(run: Run) -> None:
    where = run("python", "-c", "import personsearch; print(personsearch.__file__)")
    assert Path(where).parts[-5:-3] == ("lib", f"python3.{sys.version_info.minor}")
    assert "recipes" in run("personsearch", "--help")
    assert "prw/seqnet" in run("personsearch", "recipes", "list").split()
    shown = run("personsearch", "bench", "ablation", "dcinet-table-4", "--show", "--json")
    assert json.loads(shown)["name"] == "dcinet-table-4"


def test_it_draws_trains_evaluates_and_searches_without_extras(run: Run) -> None:
    folder = Path(run("python", "-c", "import os; print(os.getcwd())").strip())
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    run("personsearch", "data", "synth", "synth", "--size", "tiny")
    run("personsearch", "train", "tiny.toml", "--data", "synth", "--out", "run")
    measured = run("personsearch", "evaluate", "run", "--data", "synth", "--no-bounds", "--json")
    assert json.loads(measured)["search"]
    photos = folder / "photos"
    photos.mkdir()
    for picture in sorted((folder / "synth" / "images").iterdir())[:3]:
        shutil.copy(picture, photos)
    query = next(photos.iterdir())
    run(
        *("personsearch", "search", query, "--box", "10,10,60,120"),
        *("--in", "photos", "--model", "run", "--score-threshold", "0"),
    )
