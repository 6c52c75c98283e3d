"""Dockerfile and compose.yaml: not run here, but what matters about them is stated and checked."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    (line.split()[0], line.split(maxsplit=1)[1])
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if line and not line.startswith("#")
]


def _named(instruction: str) -> list[str]:
    return [text for name, text in INSTRUCTIONS if name == instruction]


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    (base,) = _named("FROM")
    assert re.fullmatch(r"[a-z/.-]+:\d+\.\d+[\w.-]*", base)
    names = [name for name, _ in INSTRUCTIONS]
    assert _named("USER") == ["seeker"]
    assert names.index("USER") < names.index("CMD")
    assert names.index("RUN") < names.index("USER")
    assert _named("HEALTHCHECK")
    assert "ADD" not in names
    assert _named("VOLUME") == ["/data"]
    (command,) = _named("CMD")
    assert yaml.safe_load(command)[:2] == ["personsearch", "serve"]
    for copied in _named("COPY"):
        for name in copied.split()[:-1]:
            assert (ROOT / name).exists()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service(name: str) -> None:
    service = SERVICES[name]
    user = str(service["user"]).split(":")[0]
    assert user.isdigit()
    assert int(user) > 0
    assert "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    if "image" in service:
        _, _, tag = service["image"].rpartition(":")
        assert re.search(r"\d{2,}|\d\.\d", tag)
        assert tag != "latest"
        assert "healthcheck" in service
    else:
        assert service["build"] == "."
        assert _named("HEALTHCHECK")
    for volume in service["volumes"]:
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for other in service.get("depends_on", ()):
        assert "healthcheck" in SERVICES[other]


def test_no_secret_is_written_down() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("KEY|SECRET|PASSWORD|USER|TOKEN", key):
                assert str(value).startswith("${"), key
    assert not re.search(r"(?i)(password|secret|token|psk_)\s*[=:]\s*\w", DOCKERFILE)
