"""The lake: every path, every manifest, every atomic write.

A file that no manifest names does not exist. A step writes its files first and its manifest last,
in one rename (one put on an object store): that is its commit. What a killed run left behind is
removed by ``remove_strays`` at the start of the next one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from pipelines.errors import HearbackError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from pipelines.settings import Settings

ROW_GROUP = 65_536  # rows; several groups a file let readers skip and work side by side
TEMPORARY = "_tmp"  # of a local lake: where all is written that is renamed when it is whole
TEMPORARY_SECONDS = 86_400  # no step writes one file for so long: what is older was left by a kill
LAYERS = ("raw", "staging", "quarantine", "intermediate", "classified")


class FileEntry(TypedDict):
    """A committed file: path relative to the lake, rows, the manifest version that added it."""

    path: str
    rows: int
    version: int
    entity: NotRequired[str]


class Superseded(FileEntry):
    """A file that a later manifest version replaced; it is removed some versions later."""

    superseded_in: int
    superseded_at: str


class RawManifest(TypedDict):
    version: int
    position: dict[str, Any]
    files: list[FileEntry]


class StagingManifest(TypedDict):
    """``consumed``: raw manifest version by source. ``files`` and ``quarantine``: by entity."""

    version: int
    consumed: dict[str, int]
    files: dict[str, list[FileEntry]]
    quarantine: dict[str, list[FileEntry]]
    known_fields: NotRequired[dict[str, list[str]]]
    known_values: NotRequired[dict[str, list[str]]]


class FactsManifest(TypedDict):
    """Facts by entity and day (``2026-11-20``, or ``all``). ``consumed``: staging version.

    ``layout`` stands for the columns that the files have; without it they are of 0.1.
    """

    version: int
    layout: NotRequired[str]
    consumed: int
    partitions: dict[str, dict[str, FileEntry]]
    text_keys: NotRequired[dict[str, FileEntry]]  # what finds a text said twice, by day
    superseded: NotRequired[list[Superseded]]  # readers may still hold these files open


class LabelsManifest(TypedDict):
    """Labels by day. ``consumed``: facts version; all rows carry ``model_version``."""

    version: int
    consumed: int
    model_version: str
    partitions: dict[str, FileEntry]
    superseded: NotRequired[list[Superseded]]  # readers may still hold these files open


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, a quota or a limit on the size of files is used up."""
    # DuckDB's errors have no number.
    told = ("No space left on device", "File too large")
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(text in str(error) for text in told)


@contextmanager
def explain_disk_errors(what: str) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into one line that says what to do."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        if is_disk_full(error):
            raise HearbackError(
                f"disk full while writing {what}; free some space and run again: "
                "nothing half-written is used"
            ) from error
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise HearbackError(
                f"not allowed to write {what}; mend the folder's permissions and run again"
            ) from error
        raise


def remember_files(fs: Any) -> None:
    """Ask an object store once about each data file: under its name it never changes.

    DuckDB asks four times a file and query, which over a network would be most of a step's time.
    """
    from fsspec.asyn import sync_wrapper

    if getattr(fs, "remembers_files", False) or not hasattr(fs, "_info"):
        return
    ask = fs._info
    known: dict[str, dict[str, Any]] = {}

    async def info(path: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        name = str(fs._strip_protocol(path))
        if name in known:
            return known[name]
        found: dict[str, Any] = await ask(path, *arguments, **options)
        if name.endswith(".parquet"):
            known[name] = found
        return found

    fs._info = info
    fs.info = sync_wrapper(info, obj=fs)
    fs.remembers_files = True


class Lake:
    """The lake under one root, a local folder or an object-store URL."""

    def __init__(self, root: str | Path) -> None:
        import fsspec

        self.fs, self.root = fsspec.core.url_to_fs(str(root))
        self.is_local = "file" in self.fs.protocol
        self.scheme = "" if self.is_local else f"{str(root).split('://', 1)[0]}://"
        if not self.is_local:
            remember_files(self.fs)

    # paths ------------------------------------------------------------------------------------

    def url(self, relative: str) -> str:
        """What DuckDB and Arrow open."""
        return f"{self.scheme}{self.root}/{relative}"

    def raw_folder(self, source: str, day: date) -> str:
        return f"raw/source={source}/date={day}"

    def layer_folder(self, layer: str, entity: str | None, day: date | str) -> str:
        return f"{layer}/{entity}/date={day}" if entity else f"{layer}/date={day}"

    # files ------------------------------------------------------------------------------------

    def new_file(self, folder: str, stem: str) -> NewFile:
        """A file to be written aside; ``NewFile.commit`` puts it in its place."""
        return NewFile(self, f"{folder}/{stem}-{uuid.uuid4().hex[:12]}.parquet")

    def write_table(
        self,
        folder: str,
        stem: str,
        table: pa.Table,
        version: int,
        *,
        repeated: list[str] | None = None,
    ) -> FileEntry:
        """Write an Arrow table as one zstd Parquet file; see ``write_tables``."""
        return self.write_tables(folder, stem, table.schema, [table], version, repeated=repeated)

    def write_tables(
        self,
        folder: str,
        stem: str,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        version: int,
        *,
        repeated: list[str] | None = None,
    ) -> FileEntry:
        """Write Arrow tables as one zstd Parquet file, each from a row group of its own on.

        ``repeated``: columns worth a dictionary, because their values come again; None: all.
        """
        import pyarrow.parquet as pq

        new = self.new_file(folder, stem)
        rows = 0
        with (
            explain_disk_errors(new.relative),
            self.fs.open(new.temporary, "wb") as sink,
            pq.ParquetWriter(
                sink,
                schema,
                compression="zstd",
                use_dictionary=True if repeated is None else repeated,
            ) as writer,
        ):
            for table in tables:
                writer.write_table(table, ROW_GROUP)
                rows += table.num_rows
        return new.commit(rows, version)

    def read_table(self, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
        import pyarrow.parquet as pq

        with self.fs.open(f"{self.root}/{entry['path']}", "rb") as file:
            return pq.read_table(file, columns=columns)

    def remove_strays(self, folder: str, committed: Iterable[FileEntry]) -> int:
        """Remove files under folder that no manifest names; returns how many.

        Also removes what killed runs left half-written a day ago or earlier.
        """
        self.remove_temporaries()
        base = f"{self.root}/{folder}"
        if not self.fs.exists(base):
            return 0
        keep = {f"{self.root}/{entry['path']}" for entry in committed}
        strays = [path for path in self.fs.find(base) if path not in keep]
        for path in strays:
            self.fs.rm_file(path)
        return len(strays)

    def remove_temporaries(self) -> None:
        """Remove half-written files that nobody can be at work on any more."""
        folder = Path(self.root) / TEMPORARY
        if not self.is_local or not folder.is_dir():
            return
        oldest = time.time() - TEMPORARY_SECONDS
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer or another step was faster
                if path.stat().st_mtime < oldest:
                    path.unlink()

    # manifests --------------------------------------------------------------------------------

    def read_json(self, relative: str) -> Any | None:
        path = f"{self.root}/{relative}"
        try:
            with self.fs.open(path, "rb") as file:
                return json.load(file)
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise HearbackError(
                f"{self.url(relative)} is damaged ({error.msg}); restore it from a backup, or "
                "delete it and run with --full-refresh to rebuild from raw"
            ) from error

    def write_json(self, relative: str, content: Any) -> None:
        """Replace a JSON file in one rename (one put on an object store)."""
        target = f"{self.root}/{relative}"
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode()
        with explain_disk_errors(relative):
            if not self.is_local:
                self.fs.pipe_file(target, text)
                return
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            temporary = f"{self.root}/{TEMPORARY}/{Path(target).name}.{uuid.uuid4().hex[:8]}"
            Path(temporary).parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    def raw_manifest(self, source: str) -> RawManifest:
        found: RawManifest | None = self.read_json(f"_manifests/raw/{source}.json")
        return found or {"version": 0, "position": {}, "files": []}

    def write_raw_manifest(self, source: str, manifest: RawManifest) -> None:
        self.write_json(f"_manifests/raw/{source}.json", manifest)

    def list_raw_sources(self) -> list[str]:
        """Sources that have captured something."""
        base = f"{self.root}/_manifests/raw"
        found = self.fs.find(base) if self.fs.exists(base) else []
        return sorted(Path(path).stem for path in found if path.endswith(".json"))

    def staging_manifest(self) -> StagingManifest:
        found: StagingManifest | None = self.read_json("_manifests/staging.json")
        return found or {"version": 0, "consumed": {}, "files": {}, "quarantine": {}}

    def write_staging_manifest(self, manifest: StagingManifest) -> None:
        self.write_json("_manifests/staging.json", manifest)

    def facts_manifest(self) -> FactsManifest:
        found: FactsManifest | None = self.read_json("_manifests/intermediate.json")
        return found or {"version": 0, "consumed": 0, "partitions": {}}

    def write_facts_manifest(self, manifest: FactsManifest) -> None:
        self.write_json("_manifests/intermediate.json", manifest)

    def labels_manifest(self) -> LabelsManifest:
        found: LabelsManifest | None = self.read_json("_manifests/classified.json")
        return found or {"version": 0, "consumed": 0, "model_version": "", "partitions": {}}

    def write_labels_manifest(self, manifest: LabelsManifest) -> None:
        self.write_json("_manifests/classified.json", manifest)

    # run reports ------------------------------------------------------------------------------

    def write_step_report(self, run_id: str, name: str, rows: list[dict[str, Any]]) -> None:
        self.write_json(f"_runs/{run_id}/{name}.json", rows)

    def read_step_reports(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Report rows of one run (or of all), in no particular order."""
        base = f"{self.root}/_runs" + (f"/{run_id}" if run_id else "")
        if not self.fs.exists(base):
            return []
        rows: list[dict[str, Any]] = []
        for path in self.fs.find(base):
            if path.endswith(".json"):
                with self.fs.open(path, "rb") as file:
                    rows.extend(json.load(file))
        return rows

    # errors of a run --------------------------------------------------------------------------

    def write_run_error(self, run_id: str, task: str, message: str) -> None:
        """Remember the line that says why a task of a run failed."""
        self.write_json(f"_errors/{run_id}/{task}.json", {"task": task, "message": message})

    def clear_run_error(self, run_id: str, task: str) -> None:
        path = f"{self.root}/_errors/{run_id}/{task}.json"
        if self.fs.exists(path):
            self.fs.rm_file(path)

    def read_run_errors(self, run_id: str) -> dict[str, str]:
        """Message by task (``validate``, ``extract--shop``) of what failed in a run."""
        base = f"{self.root}/_errors/{run_id}"
        found = {}
        for path in sorted(self.fs.find(base)) if self.fs.exists(base) else []:
            if path.endswith(".json"):
                with self.fs.open(path, "rb") as file:
                    error = json.load(file)
                found[error["task"]] = error["message"]
        return found


class NewFile:
    """A Parquet file written aside. On an object store a put is atomic, so aside is in place."""

    def __init__(self, lake: Lake, relative: str) -> None:
        self.lake = lake
        self.relative = relative
        self.final = f"{lake.root}/{relative}"
        if lake.is_local:
            self.temporary = f"{lake.root}/{TEMPORARY}/{Path(relative).name}"
            with explain_disk_errors(relative):
                Path(self.temporary).parent.mkdir(parents=True, exist_ok=True)
                Path(self.final).parent.mkdir(parents=True, exist_ok=True)
        else:
            self.temporary = self.final

    @property
    def url(self) -> str:
        """Where to write, for DuckDB's COPY."""
        return f"{self.lake.scheme}{self.temporary}"

    def commit(self, rows: int, version: int, entity: str | None = None) -> FileEntry:
        if self.temporary != self.final:
            os.replace(self.temporary, self.final)
        entry: FileEntry = {"path": self.relative, "rows": rows, "version": version}
        if entity is not None:
            entry["entity"] = entity
        return entry

    def discard(self) -> None:
        if self.lake.fs.exists(self.temporary):
            self.lake.fs.rm_file(self.temporary)


class Home:
    """Everything below ``project.home`` besides the lake."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.home
        self.lake = Lake(settings.project.lake or self.root / "lake")

    @property
    def warehouse(self) -> Path:
        """The published file; replaced whole by rename."""
        return self.root / "warehouse" / "hearback.duckdb"

    @property
    def build(self) -> Path:
        """The private build file of the one writer."""
        return self.root / "warehouse" / "build.duckdb"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def docs(self) -> Path:
        return self.root / "docs"

    @property
    def state(self) -> Path:
        """Small things that are not derived: task store, pseudonym key, crawl jobs."""
        return self.root / "state"

    @property
    def tasks(self) -> Path:
        return self.state / "tasks.sqlite"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME of the embedded Airflow: its database, logs and secrets."""
        return self.state / "airflow"

    def crawl_jobs(self, source: str) -> Path:
        return self.state / "crawls" / source

    def lock(self, name: str) -> Path:
        return self.state / "locks" / f"{name}.lock"

    def progress(self, run_id: str) -> Path:
        """Folder of what a run's tasks say while they work."""
        return self.state / "progress" / run_id

    def out(self, what: str, day: date) -> Path:
        """Folder of lists (``follow_ups``, ``care``), ``report`` or ``metrics`` of a day."""
        return self.root / "out" / what / day.isoformat()


def connect_duckdb(
    lake: Lake | None = None, path: Path | None = None, *, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in UTC on two threads' worth of memory, with the lake readable."""
    import duckdb

    con = duckdb.connect(str(path) if path else ":memory:", read_only=read_only)
    con.execute("set time zone 'UTC'")
    con.execute("set preserve_insertion_order = false")
    con.execute("set memory_limit = '1GB'")
    con.execute(f"set temp_directory = {quote(os.path.join(tempfile.gettempdir(), 'hearback'))}")
    con.execute("set enable_progress_bar = false")
    if lake is not None and not lake.is_local:
        con.register_filesystem(lake.fs)
    return con


def quote(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def quote_list(values: Iterable[str]) -> str:
    """A SQL list of string literals, as read_parquet takes it."""
    return "[" + ", ".join(quote(value) for value in values) + "]"


def utc_day(instant: datetime) -> date:
    return instant.date()
