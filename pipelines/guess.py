"""A source for a file that nobody has described: its kind, and which column holds what.

Columns are told by their names, in English and Chinese; the text, if no name tells it, by what
stands in it. A guess is always shown, and never wins over what is given.
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.classify import ID_NAMES, TEXT_NAMES
from pipelines.errors import UsageError
from pipelines.settings import Source
from pipelines.sources.base import PullContext

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet", ".xlsx": "excel", ".xlsm": "excel",
}  # fmt: skip
NAMES: dict[str, tuple[str, ...]] = {
    "source_record_id": ID_NAMES,
    "body": TEXT_NAMES,
    "title": ("title", "subject", "headline", "summary", "标题", "主题"),
    "rating": ("rating", "stars", "star_rating", "star", "score", "评分", "星级", "打分", "分数"),
    "created_at": (
        "created_at", "created", "date", "time", "timestamp", "datetime", "created_time",
        "creation_date", "review_date", "submitted_at", "posted_at", "published_at", "at",
        "创建时间", "评论时间", "评价时间", "发布时间", "时间", "日期",
    ),
    "source_customer_id": (
        "customer_id", "user_id", "customer", "user", "member_id", "客户id", "用户id", "客户",
        "用户",
    ),
    "author": (
        "author", "username", "user_name", "nickname", "reviewer", "name", "昵称", "作者", "姓名",
    ),
    "product": ("product", "product_name", "item", "sku", "产品", "商品", "商品名称"),
    "language": ("language", "lang", "locale", "语言"),
}  # fmt: skip
SCALES = (5.0, 10.0, 100.0)
LEAST_CHARACTERS = 8  # a column whose cells are shorter holds words, not texts
SAMPLE_ROWS = 200
SHAPES = ("encoding", "delimiter", "sheet")  # options that say how a file is to be read


@dataclass(frozen=True)
class Sample:
    """The columns of a file and what stands in its first rows."""

    columns: list[str]
    rows: list[dict[str, Any]]

    def values(self, column: str) -> list[str]:
        found = [row.get(column) for row in self.rows]
        return [str(value) for value in found if value not in (None, "")]


def find_kind_of_file(path: Path) -> str:
    """The kind for a file's ending, packed or not; UsageError names those there are."""
    from pipelines.sources.places import UNPACKERS

    endings = [ending.lower() for ending in path.suffixes]
    while endings and endings[-1] in (*UNPACKERS, ".zip"):
        endings.pop()
    kind = KINDS.get(endings[-1]) if endings else None
    if kind is None:
        raise UsageError(f"{path}: cannot tell what it is; name it {', '.join(sorted(KINDS))}")
    return kind


def read_sample(source: Source, context: PullContext) -> Sample:
    """The first rows of what a file kind would read first."""
    from pipelines.sources import files
    from pipelines.sources.places import find_places, open_place, unpack

    path = source.options["path"]
    shape = {name: source.options[name] for name in SHAPES if name in source.options}
    options = files.Options.model_validate({"path": path, **shape})
    place = find_places(source, path, context)[0]
    with open_place(source, place) as local:
        for name, file in unpack(source, local, place.key):
            for table in files.read_file(source, options, file, name):
                return make_sample(table)
    raise UsageError(f"{place.key}: holds no record")


def make_sample(table: pa.Table) -> Sample:
    payloads = table["payload"].slice(0, SAMPLE_ROWS).to_pylist()
    problems = table["problem"].slice(0, SAMPLE_ROWS).to_pylist()
    pairs = zip(payloads, problems, strict=True)
    rows = [json.loads(payload) for payload, problem in pairs if problem is None]
    return Sample(list(dict.fromkeys(key for row in rows for key in row)), rows)


def normalise(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def guess_columns(sample: Sample) -> dict[str, str]:
    """Canonical column → column of the file, each used once."""
    known: dict[str, str] = {}
    for column in sample.columns:
        known.setdefault(normalise(column), column)
    found: dict[str, str] = {}
    for canonical, names in NAMES.items():
        named = next((known[name] for name in names if name in known), None)
        if named is not None and named not in found.values():
            found[canonical] = named
    if "body" not in found:
        longest = find_text(sample, set(found.values()))
        if longest is not None:
            found["body"] = longest
    return found


def find_text(sample: Sample, taken: set[str]) -> str | None:
    """The column with the longest texts; None if there is none with texts."""
    lengths = {
        column: statistics.mean(map(len, values))
        for column in sample.columns
        if column not in taken and (values := sample.values(column))
    }
    longest = max(lengths, key=lambda column: lengths[column], default=None)
    return longest if longest and lengths[longest] >= LEAST_CHARACTERS else None


def guess_scale(ratings: list[str]) -> dict[str, float]:
    """The scale that ratings lie on: constants of the source; none if they are not numbers."""
    numbers = [float(text) for text in ratings if re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", text)]
    if not numbers:
        return {}
    common = sorted(numbers)[int(0.95 * (len(numbers) - 1) + 0.5)]  # a few may be wrong
    highest = next((scale for scale in SCALES if common <= scale), None)
    if highest is None:
        return {}
    lowest = 0.0 if highest == 100 or min(numbers) == 0 else 1.0
    return {"rating_min": lowest, "rating_max": highest}


def guess_options(source: Source, context: PullContext) -> dict[str, Any]:
    """The options of a source of files, with a guess for the columns that are not named."""
    given = source.options
    if given.get("entity", "feedback") != "feedback":
        return given
    sample = read_sample(source, context)
    named = dict(given.get("columns") or {})
    columns = {k: v for k, v in guess_columns(sample).items() if v not in named.values()} | named
    if "body" not in columns:
        raise UsageError(
            f"{given['path']}: which column holds the text? Set --set columns.body=… "
            f"(there are: {', '.join(sample.columns[:30])})"
        )
    constants = dict(given.get("constants") or {})
    if "rating" in columns:
        constants = guess_scale(sample.values(columns["rating"])) | constants
    return {**given, "columns": columns, "constants": constants}


def guess_source(path: Path, given: dict[str, Any] | None = None) -> Source:
    """A source named after a file, with its columns guessed; UsageError if no column has texts."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a file, an address, or --source")
    name = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower()).strip("_")
    name = name if name[:1].isalpha() else f"file_{name}".rstrip("_")
    options = {**(given or {}), "path": str(path)}
    source = Source(name=name[:40], kind=find_kind_of_file(path), options=options)
    context = PullContext(datetime.now(UTC), path.parent, path.parent)
    return source.model_copy(update={"options": guess_options(source, context)})


def spell_out_json(path: Path, folder: Path) -> Path:
    """A .json file that is one document, as JSON lines in a folder; else the file itself.

    UsageError if it is a document without a list of records.
    """
    if path.suffix.lower() != ".json":
        return path
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except ValueError:
        return path  # lines, or broken: the reader of lines says which
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if not lists and "\n" not in text.strip():
            return path  # one line
        document = max(lists, key=len, default=None)
    if not isinstance(document, list):
        raise UsageError(f"{path}: holds no list of records; save it as JSON lines")
    target = folder / f"{path.stem}.jsonl"
    lines = (json.dumps(record, ensure_ascii=False) for record in document)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
