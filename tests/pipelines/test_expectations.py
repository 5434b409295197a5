"""The narrow columns that checks look at."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.entities import SCHEMAS
from pipelines.expectations import (
    ROW,
    Judge,
    PlainJudge,
    entity_checks,
    narrow_columns,
    put_off_imports,
)
from pipelines.settings import Settings
from pipelines.storage import Home, connect_duckdb


@pytest.mark.parametrize(
    ("channel", "kind", "rating", "body", "has_text"),
    [
        ("review", "web_reviews", "4", "", True),
        ("review", "web_reviews", "null", "", False),
        ("app_store", "play_store", "1", "", True),
        ("app_store", "app_store", "5", " ", True),
        ("app_store", "csv", "5", " ", False),  # its text column was asked for and is empty
        ("app_store", "csv", "5", "ok", True),
        ("survey", "typeform", "3", "　", False),
    ],
)
def test_stars_without_words_are_text_enough_in_stores(
    channel: str, kind: str, rating: str, body: str, has_text: bool
) -> None:
    row = (
        f"select '{channel}' as channel, '{kind}' as source_kind, {rating}::double as rating, "
        f"null::varchar as title, '{body}' as body"
    )
    found = connect_duckdb().sql(f"select {narrow_columns('feedback')['has_text']} from ({row})")
    assert found.fetchall() == [(has_text,)]


NOW = datetime(2026, 11, 20, tzinfo=UTC)
ODD: dict[str, list[Any]] = {
    "number": [None, -1.0, 0.0, 0.5, 1.0, 1.0001, 1e15, float("nan")],
    "flag": [False, True],
    "word": ["review", "other", "x", "", None, "csat", "created"],
}
NUMBERS = ("amount", "birth_year", "weight")
KINDS = {"number": pa.float64(), "flag": pa.bool_(), "word": pa.string()}


def make_frame(entity: str, rows: int = 200) -> pd.DataFrame:
    """Rows of every column that the checks look at, with all kinds of odd values."""
    random = np.random.default_rng(3)
    columns: dict[str, Any] = {ROW: pa.array(range(rows), pa.int64())}
    for name in narrow_columns(entity):
        is_number = name.endswith(("_ms", "_share", "_length")) or name in NUMBERS
        is_flag = name.startswith(("has_", "is_"))
        kind = "number" if is_number else "flag" if is_flag else "word"
        columns[name] = pa.array(random.choice(np.array(ODD[kind], object), rows), KINDS[kind])
    con = connect_duckdb()
    con.register("odd", pa.table(columns))
    return con.sql("from odd").df()


@pytest.mark.parametrize("entity", list(SCHEMAS))
def test_a_preview_judges_as_great_expectations_does(entity: str, tmp_path: Path) -> None:
    frame, checks = make_frame(entity), entity_checks(entity, NOW)
    home = Home(Settings(path=tmp_path / "hearback.toml"))
    plain, judged = (
        {(f.check.reason, f.check.arguments["column"]): sorted(f.rows) for f in found}
        for found in (
            PlainJudge(home).judge(entity, frame, checks),
            Judge(home).judge(entity, frame, checks),
        )
    )
    assert plain == judged
    assert plain


def test_module_that_was_put_off_is_executed_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seldom").mkdir()
    (tmp_path / "seldom" / "__init__.py").write_text("import seldom_log\nseldom_log.read = True\n")
    (tmp_path / "seldom" / "part.py").write_text("VALUE = 7\n")
    (tmp_path / "seldom_log.py").write_text("read = False\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import seldom_log  # type: ignore[import-not-found]

    put_off_imports(("seldom",))
    import seldom as module  # type: ignore[import-not-found]

    assert not seldom_log.read
    from seldom.part import VALUE  # type: ignore[import-not-found]

    assert VALUE == 7
    assert not seldom_log.read
    with pytest.raises(AttributeError, match="'seldom' has no attribute 'nothing'"):
        _ = module.nothing
    assert seldom_log.read


def test_what_great_expectations_seldom_uses_is_still_there() -> None:
    code = (
        "import sys\n"
        "from pipelines.expectations import RARELY_USED, put_off_imports\n"
        "put_off_imports(RARELY_USED)\n"
        "import great_expectations\n"
        "assert 'altair.utils' not in sys.modules\n"
        "from scipy import stats\n"
        "import altair\n"
        "print(round(stats.norm.cdf(0), 1), altair.Chart.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "0.5 Chart\n"
