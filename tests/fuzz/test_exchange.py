"""Exports of any content, with checksums that fit: they are refused, or what comes in is sound."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from few_people import MODEL, fill
from fuzzed import changed_bytes, changed_json, changed_values, fuzz
from hypothesis import strategies as st

from personsearch.store import open_store
from personsearch.store.check import check_store
from personsearch.store.exchange import MANIFEST, export_store, import_store


@pytest.fixture
def export(tmp_path: Path) -> Path:
    with open_store(tmp_path / "store", model=MODEL, write=True) as store:
        fill(store)
    export_store(tmp_path / "store", tmp_path / "export")
    return tmp_path / "export"


def _signed(manifest: object) -> bytes:
    """A manifest whose checksum fits, as somebody would write it who means harm."""
    if isinstance(manifest, dict):
        manifest.pop("sha256", None)
        plain = json.dumps(manifest, sort_keys=True).encode()
        manifest["sha256"] = hashlib.sha256(plain).hexdigest()
    return json.dumps(manifest).encode()


def _checker(export: Path, folder: Path, write: Callable[[Path, bytes], None]) -> Callable:
    def check(data: bytes) -> None:
        for name in ("given", "new"):
            shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(export, folder / "given")
        write(folder / "given", data)
        import_store(folder / "given", folder / "new")
        with open_store(folder / "new") as store:
            problems = check_store(store, lambda *_: None)  # the thumbnails are none from the start
            assert [one for one in problems if "thumbnail" not in one] == []
            store.counts(), store.times(), store.cameras(), store.outdated()
            store.people(store.ids_after(-1, 100))

    return check


def test_manifests(export: Path, tmp_path: Path) -> None:
    plain = json.loads((export / MANIFEST).read_text(encoding="utf-8"))
    inputs = changed_values([plain]).map(_signed) | changed_json([plain])
    write = _checker(export, tmp_path, lambda to, data: (to / MANIFEST).write_bytes(data))
    fuzz("manifests", write, inputs, 100)


def test_tables_and_shards(export: Path, tmp_path: Path) -> None:
    plain = json.loads((export / MANIFEST).read_text(encoding="utf-8"))
    names = sorted(plain["files"])
    texts = {name: (export / name).read_bytes() for name in names}

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        number = draw(st.sampled_from(range(len(names))))
        text = texts[names[number]]
        if names[number].endswith(".jsonl") and text and draw(st.booleans()):
            lines = text.splitlines()
            row = draw(st.sampled_from(range(len(lines))))
            changed = draw(changed_values([json.loads(lines[row])]))
            lines[row] = json.dumps(changed).encode()
            return bytes([number]) + b"\n".join(lines) + b"\n"
        return bytes([number]) + draw(changed_bytes([text]))

    def write(to: Path, data: bytes) -> None:
        name = names[data[0] % len(names) if data else 0]
        (to / name).write_bytes(data[1:])
        about = {"bytes": len(data[1:]), "sha256": hashlib.sha256(data[1:]).hexdigest()}
        manifest = plain | {"files": plain["files"] | {name: about}}
        (to / MANIFEST).write_bytes(_signed(manifest))

    fuzz("tables", _checker(export, tmp_path, write), made(), 100)
