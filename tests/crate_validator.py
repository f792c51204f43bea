"""The published profiles' own validator of run crates, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

CONTEXT = ROOT / "tests/fixtures/ro_crate/ro-crate-1.1-context.json"
RUN = "https://w3id.org/ro/terms/workflow-run"
# Of https://w3id.org/ro/terms/workflow-run/context: each term by its place in the vocabulary.
RUN_TERMS = (
    "ParameterConnection", "ContainerImage", "DockerImage", "SIFImage", "connection",
    "sourceParameter", "targetParameter", "md5", "sha1", "sha256", "sha512", "environment",
    "registry", "tag", "containerImage", "resourceUsage",
)  # fmt: skip


class _Answer:
    status_code = 200
    headers: dict[str, str] = {"Content-Type": "application/ld+json"}  # noqa: RUF012

    def __init__(self, document: Any) -> None:
        self.text = json.dumps(document)

    def json(self) -> Any:
        return json.loads(self.text)


def problems(crate: Path, profile: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a profile requires and a crate lacks."""
    pytest.importorskip("rocrate_validator", reason="envs/requirements-crates.txt is not installed")
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    def get(_: Any, address: str, *__: Any, **___: Any) -> _Answer:
        known = {
            "https://w3id.org/ro/crate/1.1/context": json.loads(CONTEXT.read_text()),
            f"{RUN}/context": {"@context": {term: f"{RUN}#{term}" for term in RUN_TERMS}},
        }
        return _Answer(known[address])

    monkeypatch.setattr(HttpRequester, "get", get, raising=False)
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier=profile,
        requirement_severity=models.Severity.REQUIRED,
        cache_path=cache,
        offline=True,
    )
    found = services.validate(settings)
    said = [f"{one.check.identifier}: {one.message}" for one in found.get_issues()]
    assert found.passed() or said
    return said
