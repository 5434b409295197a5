"""What rows must satisfy, as Great Expectations suites over narrow columns.

DuckDB prepares a few narrow columns for each canonical row (flags, lengths, instants); GX judges
them and gives complete lists of failing rows. A ``fail`` sends the record to quarantine with its
reason; a ``warn`` is counted and reported.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pipelines.entities import (
    CASE_STATUSES,
    CHANNELS,
    DELETABLE,
    EVENT_TIME,
    EVENT_TYPES,
    SURVEY_KINDS,
    VENDOR_METRIC_NAMES,
)
from pipelines.errors import HearbackError
from pipelines.storage import Home

if TYPE_CHECKING:
    import pandas as pd

RARELY_USED = ("scipy.stats", "altair")  # a third of the time that importing GX takes
OLDEST = datetime(1995, 1, 1, tzinfo=UTC)
LONGEST_TEXT = 20_000
TEXT_CONTROLS = np.frombuffer(b"\t\n\r", np.uint8)
ROW = "row_number"
TEXTS: dict[str, tuple[str, ...]] = {
    "feedback": ("title", "body"),
    "messages": ("body",),
    "cases": ("subject",),
    "survey_responses": ("comment",),
    "quality_reviews": ("comment",),
    "customers": ("name",),
}
NEEDS_TEXT = ("feedback", "messages")
PARSE_REASONS = ("missing_id", "impossible_date", "unknown_value", "not_a_number")


@dataclass(frozen=True)
class Check:
    """One expectation: GX's type and arguments, the reason code, and what a failure means."""

    reason: str
    kind: str
    arguments: dict[str, Any]
    severity: Literal["fail", "warn"] = "fail"


def find_control_characters(rows: pa.Table, entity: str) -> pa.Array:
    """Which rows hold a control character, other than tab and line breaks, in a text.

    Looks at bytes, which takes a tenth of the time of a regular expression.
    """
    found = np.zeros(rows.num_rows, bool)
    for name in TEXTS.get(entity, ()):
        start = 0
        for chunk in rows[name].chunks:
            _, ends, data = chunk.buffers()
            if data is not None:
                offsets = np.frombuffer(ends, np.int32)[chunk.offset :][: len(chunk) + 1]
                text = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
                low = np.flatnonzero(text < 0x20)
                hits = low[~np.isin(text[low], TEXT_CONTROLS)] + offsets[0]
                found[start + np.searchsorted(offsets, hits, side="right") - 1] = True
            start += len(chunk)
    return pa.array(found)


def narrow_columns(entity: str) -> dict[str, str]:
    """Column name → SQL over a canonical row, for the entity's checks.

    The row also has its ``reasons``, ``is_conflicting`` and ``has_control_characters``.
    """
    columns = {
        f"has_{reason}": "case when len(reasons) = 0 then false else "
        f"len(list_filter(reasons, lambda x: starts_with(x, '{reason}:'))) > 0 end"
        for reason in PARSE_REASONS
    }
    columns["is_conflicting"] = "is_conflicting"
    texts = TEXTS.get(entity, ())
    if texts:
        joined = " || chr(10) || ".join(f"coalesce({name}, '')" for name in texts)
        columns["text_length"] = f"length({joined})"
        columns["has_control_characters"] = "has_control_characters"
    if entity in NEEDS_TEXT:
        columns["has_text"] = f"regexp_matches({joined}, '[^ \\n\\t　]')"
    if entity == "feedback":
        # stars without a word are still a verdict on a review page and in an app store
        stores = "channel = 'review' or source_kind in ('app_store', 'play_store')"
        columns["has_text"] += f" or (({stores}) and rating is not null)"
    event = EVENT_TIME[entity]
    if event:
        # milliseconds since 1970, so that one comparison serves every zone and unit
        columns["event_ms"] = f"epoch_ms({event})::double"
    if entity == "feedback":
        columns["rating_share"] = "(rating - rating_min) / nullif(rating_max - rating_min, 0)"
        columns["channel"] = "channel"
    if entity == "survey_responses":
        columns["score_share"] = "(score - scale_min) / nullif(scale_max - scale_min, 0)"
        columns["kind"] = "kind"
        columns["answer_delay_ms"] = "(epoch_ms(answered_at) - epoch_ms(offered_at))::double"
    if entity == "quality_reviews":
        columns["score_share"] = "(score - scale_min) / nullif(scale_max - scale_min, 0)"
        columns["weight"] = "weight"
        columns["has_reviewed_at"] = "reviewed_at is not null"
    if entity == "cases":
        columns["status"] = "status"
        columns["has_opened_at"] = "opened_at is not null"
    if entity == "case_events":
        columns["event_type"] = "event_type"
        columns["has_event_at"] = "event_at is not null"
    if entity == "orders":
        columns["amount"] = "amount"
    if entity == "vendor_metrics":
        columns["metric"] = "metric"
    if entity == "deletions":
        columns["deleted_entity"] = "deleted_entity"
    if entity == "customers":
        columns["birth_year"] = "year(birthday)::double"
    return columns


def entity_checks(entity: str, now: datetime) -> list[Check]:
    """The checks of an entity. ``now`` bounds instants: a day of clock skew is allowed."""
    checks = [
        Check(reason, "expect_column_values_to_be_in_set",
              {"column": f"has_{reason}", "value_set": [False]})
        for reason in PARSE_REASONS
    ]  # fmt: skip
    checks.append(
        Check("conflicting_duplicate_id", "expect_column_values_to_be_in_set",
              {"column": "is_conflicting", "value_set": [False]})
    )  # fmt: skip
    if entity in TEXTS:
        checks += [
            Check("oversized_text", "expect_column_values_to_be_between",
                  {"column": "text_length", "max_value": LONGEST_TEXT}),
            Check("control_characters", "expect_column_values_to_be_in_set",
                  {"column": "has_control_characters", "value_set": [False]}),
        ]  # fmt: skip
    if entity in NEEDS_TEXT:
        checks.append(
            Check("empty_text", "expect_column_values_to_be_in_set",
                  {"column": "has_text", "value_set": [True]})
        )  # fmt: skip
    if EVENT_TIME[entity]:
        latest = (now + timedelta(days=1)).timestamp() * 1000
        checks.append(
            Check("impossible_date", "expect_column_values_to_be_between",
                  {"column": "event_ms", "min_value": OLDEST.timestamp() * 1000,
                   "max_value": latest})
        )  # fmt: skip
    if entity == "customers":
        checks.append(
            Check("impossible_date", "expect_column_values_to_be_between",
                  {"column": "birth_year", "min_value": 1900, "max_value": now.year})
        )  # fmt: skip
    checks += SPECIFIC.get(entity, [])
    return checks


SPECIFIC: dict[str, list[Check]] = {
    "feedback": [
        Check("rating_out_of_scale", "expect_column_values_to_be_between",
              {"column": "rating_share", "min_value": 0, "max_value": 1}),
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "channel", "value_set": list(CHANNELS)}),
        Check("missing_date", "expect_column_values_to_not_be_null",
              {"column": "event_ms"}, "warn"),
    ],
    "survey_responses": [
        Check("rating_out_of_scale", "expect_column_values_to_be_between",
              {"column": "score_share", "min_value": 0, "max_value": 1}),
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "kind", "value_set": list(SURVEY_KINDS)}),
        Check("answered_before_offered", "expect_column_values_to_be_between",
              {"column": "answer_delay_ms", "min_value": 0}, "warn"),
    ],
    "quality_reviews": [
        Check("rating_out_of_scale", "expect_column_values_to_be_between",
              {"column": "score_share", "min_value": 0, "max_value": 1}),
        Check("negative_weight", "expect_column_values_to_be_between",
              {"column": "weight", "min_value": 0}),
        Check("missing_date", "expect_column_values_to_be_in_set",
              {"column": "has_reviewed_at", "value_set": [True]}),
    ],
    "cases": [
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "status", "value_set": list(CASE_STATUSES)}),
        Check("missing_date", "expect_column_values_to_be_in_set",
              {"column": "has_opened_at", "value_set": [True]}),
    ],
    "case_events": [
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "event_type", "value_set": list(EVENT_TYPES)}),
        Check("missing_date", "expect_column_values_to_be_in_set",
              {"column": "has_event_at", "value_set": [True]}),
    ],
    "vendor_metrics": [
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "metric", "value_set": list(VENDOR_METRIC_NAMES)}),
    ],
    "deletions": [
        Check("unknown_value", "expect_column_values_to_be_in_set",
              {"column": "deleted_entity", "value_set": list(DELETABLE)}),
    ],
    "orders": [
        Check("negative_amount", "expect_column_values_to_be_between",
              {"column": "amount", "min_value": 0}, "warn"),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    check: Check
    rows: list[int]


class Judge:
    """Great Expectations with its context and Data Docs kept under ``home``/docs."""

    def __init__(self, home: Home) -> None:
        import logging
        import os

        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        put_off_imports(RARELY_USED)
        import great_expectations as gx

        home.docs.mkdir(parents=True, exist_ok=True)
        self.mark = home.docs / "unfinished"
        if self.mark.exists():
            drop_damaged_docs(home.docs / "gx")
        self.mark.touch()
        self.gx = gx
        self.context = gx.get_context(mode="file", project_root_dir=str(home.docs))
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.context.variables.progress_bars = ProgressBarsConfig(
            globally=False, metric_calculations=False
        )
        self.source = self.context.data_sources.add_or_update_pandas("hearback")
        self.batches: dict[str, Any] = {}

    def judge(self, entity: str, frame: pd.DataFrame, checks: list[Check]) -> Iterator[Failure]:
        """Failing row numbers of each check. HearbackError if a check itself broke."""
        batches = self.batches.get(entity)
        if batches is None:
            asset = self.source.add_dataframe_asset(entity)
            batches = asset.add_batch_definition_whole_dataframe("new_rows")
            self.batches[entity] = batches
        expectations = []
        for place, check in enumerate(checks):
            name = "".join(part.title() for part in check.kind.split("_"))
            make = getattr(self.gx.expectations, name)
            meta = {"place": place, "reason": check.reason, "severity": check.severity}
            expectations.append(make(**check.arguments, meta=meta))
        suite = self.context.suites.add_or_update(
            self.gx.ExpectationSuite(name=entity, expectations=expectations)
        )
        definition = self.context.validation_definitions.add_or_update(
            self.gx.ValidationDefinition(name=entity, data=batches, suite=suite)
        )
        checkpoint = self.context.checkpoints.add_or_update(
            self.gx.Checkpoint(
                name=entity,
                validation_definitions=[definition],
                result_format={
                    "result_format": "COMPLETE",
                    "return_unexpected_index_query": False,
                    "include_unexpected_rows": False,
                },
            )
        )
        # Failing rows are told by the index: by the name of a column, GX would look up each one.
        outcome = checkpoint.run(
            batch_parameters={"dataframe": frame.set_index(ROW).rename_axis(None)}
        )
        for result in next(iter(outcome.run_results.values())).results:
            configuration = result.expectation_config
            if configuration is None:
                raise HearbackError(f"validate: GX lost a result of {entity}; report this fault")
            check = checks[configuration.meta["place"]]
            fault = find_fault(result.exception_info)
            if fault:
                raise HearbackError(
                    f"validate: check {check.reason} of {entity} broke: {fault}; report this fault"
                )
            if not result.success:
                yield Failure(check, list(result.result.get("unexpected_index_list") or []))

    def write_docs(self) -> str:
        """Build Data Docs; returns the address of the index page."""
        pages: dict[str, str] = self.context.build_data_docs()
        self.mark.unlink(missing_ok=True)
        return next(iter(pages.values()), "")


class PutOff(ModuleType):
    """A module that is executed when something is first read of it."""

    def __getattr__(self, name: str) -> Any:
        if self.__class__ is PutOff:
            self.__class__ = ModuleType  # type: ignore[assignment]
            assert self.__spec__ is not None
            assert self.__spec__.loader is not None
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def put_off_imports(names: tuple[str, ...]) -> None:
    """Make modules that are not imported yet ``PutOff`` ones.

    Great Expectations imports at its start what only a few of its expectations use.
    """
    for name in names:
        package, _, part = name.rpartition(".")
        if package:
            importlib.import_module(package)
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        module.__class__ = PutOff
        sys.modules[name] = module
        if package:
            setattr(sys.modules[package], part, module)


class PlainJudge:
    """The same checks without Great Expectations, its pages and the seconds that both take.

    For previews, of which nothing is kept. A test holds it to what ``Judge`` finds.
    """

    def __init__(self, home: Home) -> None:
        self.home = home

    def judge(self, entity: str, frame: pd.DataFrame, checks: list[Check]) -> Iterator[Failure]:
        for check in checks:
            rows = frame.loc[find_failing(frame, check), ROW].tolist()
            if rows:
                yield Failure(check, rows)

    def write_docs(self) -> str:
        return ""


def find_failing(frame: pd.DataFrame, check: Check) -> pd.Series:
    """Which rows fail a check. As with GX, NULL fails only where it is asked for."""
    wanted = dict(check.arguments)
    column = frame[wanted["column"]]
    if check.kind == "expect_column_values_to_not_be_null":
        return column.isna()
    if check.kind == "expect_column_values_to_be_in_set":
        return column.notna() & ~column.isin(wanted["value_set"])
    if check.kind != "expect_column_values_to_be_between":
        raise HearbackError(f"check {check.reason} of kind {check.kind} cannot be previewed")
    numbers = column.astype("Float64")
    failing = numbers.isna() & False
    if "min_value" in wanted:
        failing |= (numbers < wanted["min_value"]).fillna(False)
    if "max_value" in wanted:
        failing |= (numbers > wanted["max_value"]).fillna(False)
    return failing.astype(bool)


def drop_damaged_docs(folder: Path) -> None:
    """Remove what a run that was cut off left half-written among GX's own files.

    GX writes them in place and refuses to start if one is damaged; all of them can be made again.
    """
    for path in folder.rglob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.unlink()
    (folder / "great_expectations.yml").unlink(missing_ok=True)


def find_fault(info: Any) -> str | None:
    """The message of an expectation that could not be computed, in whatever nesting GX gives it."""
    if not isinstance(info, dict):
        return None
    if info.get("raised_exception"):
        return str(info.get("exception_message"))
    for inner in info.values():
        found = find_fault(inner)
        if found:
            return found
    return None
