"""A record that changes while it is pulled: its later version counts, nothing is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import clean
from pipelines.mapping import Field, Mapping
from pipelines.settings import Source
from pipelines.sources import MODULES
from pipelines.sources import files as files_module
from pipelines.sources.base import Batch, Kind, PullContext, Record
from tests.pipelines.sources.pulling import make_run, make_source, quarantined, stage


def pull(source: Source, context: PullContext) -> Iterator[Batch]:
    """One message twice, as pages that overlap give it."""
    for text in ("The charger is broken again", "The charger is broken again, and it smells"):
        payload = {"id": "m1", "case": "c1", "body": text, "at": "2026-11-19T10:00:00Z"}
        yield Batch("messages", [Record("m1", payload)], {"seen": text})


def mappings(source: Source) -> list[Mapping]:
    fields = {
        "source_record_id": Field("id"),
        "source_case_id": Field("case"),
        "body": Field("body"),
        "created_at": Field("at", "instant"),
        "author_role": Field(const="customer"),
    }
    return [Mapping("messages", "messages", fields, required=("source_record_id",))]


def test_the_later_version_of_a_pull_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = Kind("moving", "", files_module.Options, ("messages",), pull, mappings)
    monkeypatch.setitem(files_module.KINDS, "moving", kind)
    monkeypatch.setitem(MODULES, "moving", "files")
    source = make_source("moving", connection=None)
    assert len(stage(tmp_path, source)["messages"]) == 2
    assert quarantined(tmp_path, source) == []
    run = make_run(tmp_path, source)
    clean.run(run)
    (facts,) = run.lake.facts_manifest()["partitions"]["feedback"].values()
    assert run.lake.read_table(facts)["body"].to_pylist() == [
        "The charger is broken again, and it smells"
    ]
