"""docs/web.md: its curl examples run as they stand, against a small archive."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from crowd import BLUE, RED

from personsearch.web.keys import Keys

TEXT = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```bash curl\n(.*?)```", TEXT, re.DOTALL)


def test_every_example_runs(
    store: Path,
    tmp_path: Path,
    serving: Callable[..., AbstractContextManager[str]],
    png: Callable[..., bytes],
) -> None:
    assert len(EXAMPLES) == 7
    (tmp_path / "me.png").write_bytes(png({20: RED, 120: BLUE}))
    secret = Keys(store).make("desk", ["search", "index", "erase"])
    said = {"KEY": secret, "QUERY": "", "RESULT": ""}
    answers = []
    with serving(store) as address:
        for example in EXAMPLES:
            ran = subprocess.run(
                ["bash", "-c", example.replace("http://127.0.0.1:8008", address)],
                cwd=tmp_path,
                env=os.environ | said,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, (example, ran.stderr)
            answers.append(ran.stdout)
            if ran.stdout.startswith("{"):
                told = json.loads(ran.stdout)
                said["QUERY"] = told.get("id", said["QUERY"])
                said["RESULT"] = told.get("result", said["RESULT"])
    assert len(json.loads(answers[0])["people"]) == 2
    assert len(json.loads(answers[1])["hits"]) == 5
    assert {hit["person"]["camera"] for hit in json.loads(answers[2])["hits"]} == {"gate"}
    assert answers[3].startswith("rank,person,similarity")
    assert (tmp_path / "picture.jpg").read_bytes().startswith(b"\xff\xd8")
    assert json.loads(answers[5])["skipped"] is False
    assert json.loads(answers[6]) == {"views": 1}
