"""The manifests of the small models are those that their script records."""

from __future__ import annotations

from pathlib import Path

import pytest
import structural


@pytest.mark.parametrize("name", structural.FIXTURES)
def test_the_script_records_what_is_committed(name: str, tmp_path: Path) -> None:
    _, recorder = structural.record(structural.FIXTURES[name], tmp_path)
    manifest = recorder.save(name)
    committed = structural.OUT / manifest.name
    assert manifest.read_text() == committed.read_text(), "`make fixtures`, then `make bless`"
