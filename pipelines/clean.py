"""clean: staging → intermediate facts, one row per id at its latest version, redacted.

Rows of staging files that were not consumed yet are read, the latest version of each record wins,
texts are cleaned and redacted, and the days they fall on are written anew. What a case says (its
messages, events and itself) hangs together: a case that is touched is worked out whole, from all
its versions in staging. Running it twice changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import duplicates, text
from pipelines.context import Run, StepCount, timed_step
from pipelines.entities import DELETABLE, FACT_DAYS, FACT_KEYS, KEYS, SCHEMAS
from pipelines.facts import FactStore, fact_columns, make_empty
from pipelines.pseudonyms import hash_emails, load_key
from pipelines.redaction import redact_texts
from pipelines.storage import connect_duckdb, quote, quote_list

if TYPE_CHECKING:
    import duckdb

STEP = "clean"
BATCH_ROWS = 50_000
WORKERS = 3
# Rows of one staging file get numbers from its place in the manifest times this on.
FILE_STRIDE = 1 << 32

# Entities whose records stand alone; those of cases are worked out together.
CASE_ENTITIES = ("cases", "messages", "case_events")
# Facts of which a record of the source gives several: the column of its id there.
PARENTS = {"survey_responses": "source_response_id", "quality_reviews": "source_review_id"}
SYSTEM_ACTORS = ("-1", "system", "automation", "trigger", "workflow", "macro")

_LANGUAGE_NAMES = {
    "zho": "zh", "chi": "zh", "cmn": "zh", "cn": "zh", "chinese": "zh", "mandarin": "zh",
    "中文": "zh", "汉语": "zh", "简体中文": "zh", "繁体中文": "zh",
    "eng": "en", "english": "en", "英文": "en", "英语": "en",
    "spa": "es", "spanish": "es", "fra": "fr", "fre": "fr", "french": "fr", "deu": "de",
    "ger": "de", "german": "de", "jpn": "ja", "japanese": "ja", "kor": "ko", "korean": "ko",
    "por": "pt", "portuguese": "pt", "ita": "it", "italian": "it", "rus": "ru", "russian": "ru",
}  # fmt: skip
_LANGUAGE_CODES = """
af am ar az be bg bn bs ca cs cy da de el en es et eu fa fi fil fr ga gl gu he hi hr hu hy
id is it ja ka kk km kn ko ky lo lt lv mk ml mn mr ms my nb ne nl nn no pa pl ps pt ro ru
si sk sl so sq sr sv sw ta te th tl tr uk ur uz vi zh zu
"""
_LANGUAGES = frozenset(_LANGUAGE_CODES.split())


def run(run: Run) -> list[StepCount]:
    """Bring the facts up to the staging manifest; returns the counts by source and entity.

    With ``full_refresh`` all facts are rebuilt from all staging files that are still there.
    """
    lake = run.lake
    staging = lake.staging_manifest()
    folder = run.home.state / "clean"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    con = connect_duckdb(lake)
    con.execute(f"set temp_directory = {quote(str(folder))}")
    con.execute("set memory_limit = '500MB'")
    con.execute("set enable_external_file_cache = false")
    try:
        with timed_step(run, STEP) as counts:
            store = FactStore(lake, con, folder, run.now, full_refresh=run.full_refresh)
            if store.consumed < staging["version"] or run.full_refresh:
                counts.extend(Cleaning(run, con, store).clean_all())
                store.commit(staging["version"])
        return counts
    finally:
        con.close()
        shutil.rmtree(folder, ignore_errors=True)


# SQL pieces -----------------------------------------------------------------------------------


def ref(source: str, record: str) -> str:
    """SQL: the id of a record of a source; NULL if the record is."""
    return f"md5({source} || chr(31) || {record})"


def normalise_language(column: str) -> str:
    """SQL: ISO 639-1 from what a source calls a language; NULL if it is not one."""
    whens = " ".join(f"when {quote(k)} then {quote(v)}" for k, v in _LANGUAGE_NAMES.items())
    known = ", ".join(quote(code) for code in sorted(_LANGUAGES))
    code = f"lower(regexp_extract({column}, '^[^-_ ]+'))"
    return (
        f"case when {column} is null then null else case {code} {whens} "
        f"else case when {code} in ({known}) then {code} end end end"
    )


def default_rating_min(column: str, highest: str) -> str:
    """SQL: the lowest rating where a source names only the highest.

    Stars and points up to 10 begin at 1, thumbs and yes/no (highest 1 or 2) and percentages at 0,
    Freshdesk's scale (highest 103) at -103.
    """
    return (
        f"coalesce({column}, case when {highest} = 103 then -103 "
        f"when {highest} > 2 and {highest} <= 10 then 1 "
        f"when {highest} is not null then 0 end)"
    )


def has_tag(column: str, tags: Iterable[str]) -> str:
    """SQL: whether one of tags is among a row's."""
    listed = ", ".join(quote(tag) for tag in tags)
    return (
        f"coalesce(list_has_any(list_transform({column}, x -> lower(trim(x))), [{listed}]), false)"
    ).replace("x -> ", "lambda x: ")


def tag_reason(column: str) -> str:
    """SQL: spam, test, auto_reply, bounce or bulk by a row's tags."""
    return (
        f"case when {column} is null then null when {has_tag(column, text.SPAM_TAGS)} then 'spam' "
        f"when {has_tag(column, text.TEST_TAGS)} then 'test' "
        f"when {has_tag(column, text.AUTO_REPLY_TAGS)} then 'auto_reply' "
        f"when {has_tag(column, text.BOUNCE_TAGS)} then 'bounce' "
        f"when {has_tag(column, text.BULK_TAGS)} then 'bulk' end"
    )


def day_of(entity: str) -> str:
    """SQL: the UTC day that a fact is filed under; NULL: ``all``."""
    instants = FACT_DAYS[entity]
    return f"cast(coalesce({', '.join(instants)}) as date)" if instants else "null::date"


def resolve_role(given: str, source: str, actor: str, nobody: str) -> str:
    """SQL: who an actor is; ``nobody`` is the role of an actor who is not named."""
    systems = ", ".join(quote(name) for name in SYSTEM_ACTORS)
    return (
        f"case when {given} is not null then {given} when {actor} is null then {nobody} "
        f"when lower({actor}) in ({systems}) then 'system' "
        f"else coalesce((select any_value(role) from roles as r where r.source = {source} "
        f"and r.source_agent_id = {actor}), 'customer') end"
    )


def is_gone(row: str, deletion: str, *, has_updated: bool) -> str:
    """SQL: whether a deletion holds for a row; one that is read again later is there again.

    What is pushed may overtake: a row of before the deletion does not undo it.
    """
    later = f"{row}.captured_at > {deletion}.told_at"
    if has_updated:
        later += f" and coalesce({row}.updated_at >= {deletion}.deleted_at, true)"
    return f"({deletion}.record_ref is not null and not ({later}))"


# SQL: the case that a staged row of feedback names; NULL if it names none.
CASE_OF_FEEDBACK = ref("coalesce(case_source, source)", "source_case_id")


def count_rows(con: duckdb.DuckDBPyConnection, relation: str) -> int:
    return int(con.sql(f"select count(*) from {relation}").fetchall()[0][0])


# The step -------------------------------------------------------------------------------------


class Cleaning:
    """One run of clean: the staging rows it reads and the facts it changes."""

    def __init__(self, run: Run, con: duckdb.DuckDBPyConnection, store: FactStore) -> None:
        self.run = run
        self.con = con
        self.store = store
        self.kinds = tuple(run.settings.privacy.redact)
        self.key = load_key(run.home.state)
        self.counts: dict[tuple[str, str], StepCount] = {}
        self.deleted: set[str] = set()  # entities of which this run was told deletions
        self.ever_deleted: set[str] = set()  # entities of which any run was
        self.files: dict[str, list[tuple[int, str, bool]]] = {}
        for entity, entries in run.lake.staging_manifest()["files"].items():
            self.files[entity] = [
                (place, run.lake.url(entry["path"]), entry["version"] > store.consumed)
                for place, entry in enumerate(entries)
            ]

    def clean_all(self) -> list[StepCount]:
        """Work out all entities; nothing counts before the store is committed."""
        for entity in SCHEMAS:
            if self._has_new(entity):
                self._take_versions(entity)
        self._gather_deletions()
        for entity, clean in (
            ("agents", self._clean_agents),
            ("customers", self._clean_customers),
            ("orders", self._clean_orders),
            ("survey_responses", self._clean_surveys),
            ("quality_reviews", self._clean_reviews),
            ("vendor_metrics", self._clean_vendor_metrics),
        ):
            if self._has_new(entity) or entity in self.deleted:
                clean()
        if any(map(self._has_new, (*CASE_ENTITIES, "agents"))):
            self._gather_cases()
            self._clean_cases()
        elif self._has_new("feedback") or "feedback" in self.deleted:
            self._find_deleted_cases(has_touched=False)
            self._clean_feedback()
            self._exclude_stored("feedback")
            self._settle("feedback")
        return [self.counts[key] for key in sorted(self.counts)]

    # reading staging ----------------------------------------------------------------------------

    def _has_new(self, entity: str) -> bool:
        return any(is_new for _, _, is_new in self.files.get(entity, []))

    def _count(self, source: str, entity: str) -> StepCount:
        return self.counts.setdefault((source, entity), StepCount(STEP, source, entity))

    def _staged(self, entity: str, *, only_new: bool, among: Iterable[int] | None = None) -> str:
        """SQL: staging rows with ``_at`` (their order) and ``_is_new``."""
        chosen = None if among is None else set(among)
        files = [
            (place, path, is_new)
            for place, path, is_new in self.files.get(entity, [])
            if (is_new or not only_new) and (chosen is None or place in chosen)
        ]
        if not files:
            name = make_empty(self.con, f"no_staged_{entity}", SCHEMAS[entity])
            return f"(select *, 0::bigint as _at, true as _is_new from {name})"
        table = f"files_{entity}"
        self.con.execute(
            f"create or replace table {table} (path varchar, place bigint, is_new boolean)"
        )
        listed = self.files[entity]
        self.con.register(
            "file_rows",
            pa.table(
                {
                    "path": pa.array([path for _, path, _ in listed], pa.string()),
                    "place": pa.array([place for place, _, _ in listed], pa.int64()),
                    "is_new": pa.array([is_new for _, _, is_new in listed], pa.bool_()),
                }
            ),
        )
        self.con.execute(f"insert into {table} from file_rows")
        paths = quote_list(path for _, path, _ in files)
        return (
            f"(select p.* exclude (filename, file_row_number), "
            f"f.place * {FILE_STRIDE} + p.file_row_number as _at, f.is_new as _is_new "
            f"from read_parquet({paths}, union_by_name = true, filename = true, "
            f"file_row_number = true) as p join {table} as f on p.filename = f.path)"
        )

    def _take_versions(self, entity: str) -> None:
        """Tables ``old_<entity>``: rows of the new files that a later version replaces; counts."""
        con = self.con
        staged = self._staged(entity, only_new=True)
        for source, rows in con.sql(
            f"select source, count(*) from {staged} group by source"
        ).fetchall():
            self._count(source, entity).count_in = rows
        self._find_replaced(entity, staged)
        for source, rows in con.sql(
            f"select source, count(*) from old_{entity} group by source"
        ).fetchall():
            self._count(source, entity).count_duplicate = rows

    def _find_replaced(self, entity: str, rows: str) -> None:
        """The table ``old_<entity>`` (_at, source): versions of rows that a later one replaces."""
        keys = ", ".join(KEYS[entity])
        updated = "updated_at" if "updated_at" in SCHEMAS[entity].names else "null"
        order = (
            f"row(coalesce(epoch_us({updated}::timestamptz), -9000000000000000000), "
            "coalesce(epoch_us(captured_at), 0), _at)"
        )
        self.con.execute(
            f"""create or replace table old_{entity} as
            with repeated as (
                select hash({keys}) as code from {rows} group by code having count(*) > 1
            ),
            versions as (
                select {keys}, _at, {order} as rank
                from {rows} as r
                where hash({keys}) in (select code from repeated)
            ),
            latest as (select arg_max(_at, rank) as _at from versions group by {keys})
            select _at, source from versions where _at not in (select _at from latest)"""
        )

    def _latest(self, entity: str) -> str:
        """SQL: the latest version of each record among the new files."""
        staged = self._staged(entity, only_new=True)
        if not self._has_new(entity) or not count_rows(self.con, f"old_{entity}"):
            return staged
        return f"(select * from {staged} where _at not in (select _at from old_{entity}))"

    def _stream(self, entity: str, query: str, finish: Callable[[pa.Table], pa.Table]) -> None:
        """Run a query, finish its batches on all cores and put them aside, a few at a time."""
        spool = self.store.spool(entity)
        cursor = self.con.cursor()
        reader = cursor.sql(query).to_arrow_reader(BATCH_ROWS)

        def work(batch: pa.RecordBatch) -> int:
            spool.append(finish(pa.Table.from_batches([batch])))
            return int(batch.num_rows)

        rows = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting: set[Future[int]] = set()
            for batch in reader:
                waiting.add(pool.submit(work, batch))
                if len(waiting) > WORKERS:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    rows += sum(future.result() for future in done)
                    self.run.progress(f"{STEP} {entity}", rows)
            for future in waiting:
                rows += future.result()
        self.run.progress(f"{STEP} {entity}", rows)
        cursor.close()

    def _select(self, entity: str, columns: dict[str, str], extra: str = "") -> str:
        """The select list of an entity's facts: given expressions, else the column as it is."""
        listed = [f"{columns.get(name, name)} as {name}" for name in fact_columns(entity)]
        return ", ".join([*listed, *([extra] if extra else [])])

    def _settle(self, entity: str, removed: str | None = None) -> None:
        """Judge an entity, count, and write its changed days."""
        changes = (
            self.store.judge(entity, removed) if removed is not None else self.store.judge(entity)
        )
        if entity == "feedback":
            duplicates.assign_originals(self.con, self.store, changes)
        self._count_verdicts(entity)
        self.store.write(entity, changes)

    def _count_verdicts(self, entity: str) -> None:
        for source, origin, kind, is_new, rows in self.con.sql(
            f"select source, origin, kind, is_new, count(*) from verdict_{entity} group by all"
        ).fetchall():
            if entity == "feedback" and origin == "messages":
                if kind in ("new", "changed"):
                    count = self._count(source, "messages")
                    before = int((count.detail or "0").split(" ", 1)[0])
                    count.detail = f"{before + rows} feedback rows new or changed"
                continue
            if not is_new or not origin:
                continue
            count = self._count(source, origin)
            if kind == "older":
                count.count_duplicate += rows
            elif kind == "unchanged":
                count.count_unchanged += rows
            else:
                count.count_out += rows

    # what is gone -------------------------------------------------------------------------------

    def _gather_deletions(self) -> None:
        """The table ``deletions``: what was ever said to be gone, and ``is_new`` in this run.

        Rows and their deletions may come in any order, and in different runs.
        """
        self.con.execute(
            f"""create or replace table deletions as
            select
                deleted_entity,
                {ref("source", "source_record_id")} as record_ref,
                max(captured_at) as told_at,
                arg_max(deleted_at, row(captured_at, deleted_at)) as deleted_at,
                arg_max({ref("source", "merged_into")}, row(captured_at, deleted_at))
                    as merged_ref,
                bool_or(_is_new) as is_new
            from {self._staged("deletions", only_new=False)}
            group by deleted_entity, record_ref"""
        )
        found = self.con.sql(
            "select deleted_entity, bool_or(is_new) from deletions group by deleted_entity"
        ).fetchall()
        self.ever_deleted = {entity for entity, _ in found}
        self.deleted = {entity for entity, is_new in found if is_new}
        for (_, entity), count in self.counts.items():
            if entity == "deletions":
                count.count_out = count.count_in - count.count_duplicate

    def _mark_deleted(self, entity: str, rows: str) -> str:
        """SQL: rows with ``_gone``, why each is left out if it is gone, and ``_merged_into``."""
        if entity not in self.ever_deleted:
            nothing = "null::varchar as _gone, null::varchar as _merged_into"
            return f"(select *, {nothing} from {rows})"
        record = ref("r.source", f"r.{KEYS[entity][1]}")
        gone = is_gone("r", "d", has_updated="updated_at" in SCHEMAS[entity].names)
        return (
            f"(select r.*, case when {gone} then if(d.merged_ref is null, 'deleted', 'merged') end "
            f"as _gone, case when {gone} then d.merged_ref end as _merged_into "
            f"from {rows} as r left join deletions as d on d.deleted_entity = {quote(entity)} "
            f"and d.record_ref = {record})"
        )

    def _exclude_stored(self, entity: str) -> None:
        """Put stored rows aside anew that are gone now and of which this run read nothing else."""
        if entity not in self.deleted or not self.store.partitions.get(entity):
            return
        key = FACT_KEYS[entity]
        record = PARENTS.get(entity, key)
        known = f"md5(source || chr(31) || {record})" if record != key else key
        stored = self.store.relation(
            entity,
            "*",
            f"{known} in (select record_ref from deletions where is_new and deleted_entity = "
            f"{quote(entity)}) and {key} not in (select id from keys_{entity})",
        )
        columns = {
            "is_excluded": "true",
            "exclusion_reason": "if(d.merged_ref is null, 'deleted', 'merged')",
            "merged_into": "d.merged_ref",
            "duplicate_of": "null::varchar",
        }
        listed = [f"{columns.get(name, f'r.{name}')} as {name}" for name in fact_columns(entity)]
        helpers = [f"{day_of(entity)} as _day", "null::varchar as _origin", "false as _is_new"]
        if entity == "feedback":
            helpers += ["null::ubigint as _text_key", "null::ubigint[] as _bands"]
        has_updated = "updated_at" in fact_columns(entity)
        query = (
            f"select {', '.join([*listed, *helpers])} from ({stored}) as r "
            f"join deletions as d on d.deleted_entity = {quote(entity)} "
            f"and d.record_ref = {known} "
            f"where {is_gone('r', 'd', has_updated=has_updated)}"
        )
        self._stream(entity, query, lambda batch: batch)

    # entities that stand alone ------------------------------------------------------------------

    def _clean_agents(self) -> None:
        columns = {
            "agent_ref": ref("source", "source_agent_id"),
            "display_name": "name",
            "email_key": "email",
            "role": "coalesce(role, 'agent')",
        }
        self._stream_plain("agents", columns, self._hash_email)
        self._settle("agents")

    def _clean_customers(self) -> None:
        pseudonym = f"'Customer ' || left({ref('source', 'source_customer_id')}, 6)"
        shown = f"coalesce(name, {pseudonym})"
        columns = {
            "customer_ref": ref("source", "source_customer_id"),
            "email_key": "email",
            "display_name": shown if self.run.settings.privacy.show_names else pseudonym,
            "birthday_month_day": "strftime(birthday, '%m-%d')",
            "language": normalise_language("language"),
            "merged_into": "_merged_into",
        }
        self._stream_plain("customers", columns, self._hash_email)
        self._settle("customers")

    def _clean_orders(self) -> None:
        columns = {
            "order_id": ref("source", "source_order_id"),
            "customer_ref": ref("coalesce(customer_source, source)", "source_customer_id"),
        }
        self._stream_plain("orders", columns, lambda batch: batch)
        self._settle("orders")

    def _clean_vendor_metrics(self) -> None:
        case = ref("source", "source_case_id")
        columns = {
            "vendor_metric_id": f"md5({case} || chr(31) || metric || chr(31) || clock)",
            "case_id": case,
        }
        self._stream_plain("vendor_metrics", columns, lambda batch: batch)
        self._settle("vendor_metrics")

    def _clean_surveys(self) -> None:
        columns = {
            "response_id": ref(
                "source", "source_response_id || coalesce(chr(31) || question_id, '')"
            ),
            "customer_ref": ref("coalesce(customer_source, source)", "source_customer_id"),
            "case_id": ref("coalesce(case_source, source)", "source_case_id"),
        }

        self._stream_plain("survey_responses", columns, self._clean_comment)
        self._settle("survey_responses")

    def _clean_reviews(self) -> None:
        columns = {
            "rating_id": ref("source", "source_review_id || coalesce(chr(31) || category, '')"),
            "review_id": ref("source", "source_review_id"),
            "case_id": ref("coalesce(case_source, source)", "source_case_id"),
            "agent_ref": ref("coalesce(agent_source, source)", "source_agent_id"),
            "reviewer_ref": ref("coalesce(agent_source, source)", "source_reviewer_id"),
        }
        self._stream_plain("quality_reviews", columns, self._clean_comment)
        self._settle("quality_reviews")

    def _stream_plain(
        self, entity: str, columns: dict[str, str], finish: Callable[[pa.Table], pa.Table]
    ) -> None:
        helpers = f"{day_of(entity)} as _day, {quote(entity)} as _origin, _is_new"
        rows = self._latest(entity)
        if entity in DELETABLE:
            rows = self._mark_deleted(entity, rows)
            columns = columns | {"is_excluded": "_gone is not null", "exclusion_reason": "_gone"}
        query = f"select {self._select(entity, columns, helpers)} from {rows}"
        self._stream(entity, query, finish)
        self._exclude_stored(entity)

    def _clean_comment(self, batch: pa.Table) -> pa.Table:
        return set_column(batch, "comment", self._clean_body(column(batch, "comment")))

    def _hash_email(self, batch: pa.Table) -> pa.Table:
        return set_column(batch, "email_key", hash_emails(column(batch, "email_key"), self.key))

    # texts --------------------------------------------------------------------------------------

    def _clean_body(self, texts: pa.Array) -> pa.Array:
        return text.drop_empty(redact_texts(text.clean_texts(texts), self.kinds))

    def _clean_title(self, texts: pa.Array) -> pa.Array:
        return text.drop_empty(redact_texts(text.clean_lines(texts), self.kinds))

    def _finish_feedback(self, batch: pa.Table) -> pa.Table:
        """Clean, redact, detect the language, find what is no feedback, key the text."""
        from models.language import decide_language, vocabulary
        from models.scanning import scan

        title = self._clean_title(column(batch, "title"))
        body = self._clean_body(column(batch, "body"))
        both = pc.binary_join_element_wise(
            pc.fill_null(title, ""), pc.fill_null(body, ""), "\x1f", null_handling="skip"
        )
        # A body tells the language by itself.
        titles_end = pc.add(pc.fill_null(pc.binary_length(title), 0), 1)
        skipped = pc.if_else(pc.is_valid(body), titles_end, 0).to_numpy(zero_copy_only=False)
        found = scan(both, vocabulary(), skipped=skipped)
        language = pc.coalesce(column(batch, "language"), decide_language(found))
        reason = text.find_reasons(title, body)
        # A rating without words still says something.
        is_rated_only = pc.and_(pc.equal(reason, "empty"), pc.is_valid(column(batch, "rating")))
        reason = pc.if_else(pc.fill_null(is_rated_only, False), None, reason)
        reason = pc.coalesce(column(batch, "_reason"), reason).cast(pa.string())
        batch = set_column(batch, "title", title)
        batch = set_column(batch, "body", body)
        batch = set_column(batch, "language", language)
        batch = set_column(batch, "exclusion_reason", reason)
        batch = set_column(batch, "is_excluded", pc.is_valid(reason))
        keys = self._key_texts(batch, both)
        bands = duplicates.key_bands(found, keys["scope"], pc.is_valid(keys["text_key"]))
        batch = set_column(batch, "text_hash", keys["text_hash"])
        batch = batch.append_column("_text_key", keys["text_key"]).append_column("_bands", bands)
        return batch.drop_columns(["_reason", "_author"])

    def _key_texts(self, batch: pa.Table, both: pa.Array) -> dict[str, pa.Array]:
        """text_hash, text_key and scope of rows of feedback; notes the reasons of openings."""
        names = ["customer_ref", "source", "product", "channel", "exclusion_reason", "_author"]
        asked = batch.select([*names, "body"])
        asked = asked.append_column("_both", both).append_column(
            "_same", text.normalise_texts(both)
        )
        asked = asked.append_column("_row", pa.array(range(len(batch)), pa.int32()))
        opening = batch.filter(batch["is_opening"]).select(["case_id", "exclusion_reason"])
        cursor = self.con.cursor()
        if len(opening):
            cursor.register("opening", opening)
            cursor.execute(
                "insert into opening_reasons from opening "
                "where exclusion_reason in ('spam', 'test')"
            )
        cursor.register("asked", asked)
        keys = cursor.sql(
            f"select _row, md5(_both) as text_hash, {duplicates.key_columns()} from asked"
        ).to_arrow_table()
        cursor.close()
        # DuckDB's threads may give the rows in another order.
        order = pc.sort_indices(keys["_row"])
        return {name: column(keys, name).take(order) for name in ("text_hash", "text_key", "scope")}

    # cases --------------------------------------------------------------------------------------

    def _gather_cases(self) -> None:
        """Tables ``rows_<entity>`` of cases, messages and events: all of the touched cases.

        On a first run these are the new rows. Later the older versions of the touched cases are
        recalled from staging, so that a case comes out the same however its rows arrived.
        """
        con = self.con
        con.execute(
            "create or replace table roles as select source, source_agent_id, role from ("
            + self.store.relation("agents", "source, source_agent_id, role")
            + ")"
        )
        actors = {"cases": "submitter_id", "messages": "author_id", "case_events": "actor_id"}
        con.execute("create or replace table touched (source varchar, source_case_id varchar)")
        for entity in CASE_ENTITIES:
            con.execute(
                f"insert into touched select distinct source, source_case_id "
                f"from {self._staged(entity, only_new=True)}"
            )
        is_first = not self.store.partitions.get("case_events") and not self.store.partitions.get(
            "cases"
        )
        has_agents = self._has_new("agents")
        if (
            not is_first
            and has_agents
            and count_rows(con, "verdict_agents where kind in ('new', 'changed')")
        ):
            con.execute(
                """create or replace table new_roles as
                select r.source, r.source_agent_id from roles as r
                where md5(r.source || chr(31) || r.source_agent_id) in (
                    select id from verdict_agents where kind in ('new', 'changed')
                )"""
            )
            for entity, actor in actors.items():
                con.execute(
                    f"insert into touched select distinct source, source_case_id "
                    f"from {self._staged(entity, only_new=False)} where not _is_new "
                    f"and (source, {actor}) in (select (source, source_agent_id) from new_roles)"
                )
        if not is_first:
            # A record that moved to another case touches the case that it left.
            for entity in ("messages", "case_events"):
                record = KEYS[entity][1]
                con.execute(
                    f"""insert into touched
                    select distinct source, source_case_id
                    from {self._staged(entity, only_new=False)}
                    where not _is_new and (source, {record}) in (
                        select (source, {record}) from {self._staged(entity, only_new=True)}
                    )"""
                )
        con.execute(
            "create or replace table cases_touched as select distinct source, source_case_id, "
            f"{ref('source', 'source_case_id')} as case_id from touched "
            "where source_case_id is not null"
        )
        con.execute(
            "create or replace table stored_events as "
            + self.store.relation(
                "case_events",
                "event_id, case_id, event_at, event_type, actor_role, sequence, to_value",
                "case_id in (select case_id from cases_touched)",
            )
        )
        bodies = {"messages": ["body"]}
        for entity in CASE_ENTITIES:
            names = [n for n in SCHEMAS[entity].names if n not in bodies.get(entity, [])]
            listed = ", ".join(names)
            where = (
                ""
                if is_first
                else (
                    "where _is_new or (source, source_case_id) in "
                    "(select (source, source_case_id) from cases_touched)"
                )
            )
            con.execute(
                f"create or replace table rows_{entity} as select {listed}, _at, _is_new "
                f"from {self._staged(entity, only_new=is_first)} {where}"
            )
            if not is_first:
                self._drop_replaced(entity)
            elif self._has_new(entity):
                con.execute(
                    f"delete from rows_{entity} where _at in (select _at from old_{entity})"
                )

    def _drop_replaced(self, entity: str) -> None:
        """Keep the latest versions among new and recalled rows."""
        con = self.con
        self._find_replaced_again(entity, f"(select * from rows_{entity})")
        con.execute(f"delete from rows_{entity} where _at in (select _at from old_{entity})")
        if entity == "cases":
            return
        # A recalled row whose record belongs to another case by now is an old version.
        record = (
            "source || chr(31) || source_event_id" if entity == "case_events"
            else "source || chr(31) || 'message' || chr(31) || source_record_id"
        )  # fmt: skip
        con.execute(
            f"""delete from rows_{entity} where not _is_new and (
                md5({record}), {ref("source", "source_case_id")}
            ) not in (select (event_id, case_id) from stored_events)"""
        )

    def _find_replaced_again(self, entity: str, rows: str) -> None:
        """The table ``old_<entity>`` among new and recalled rows; counts new rows that lose."""
        before = {
            source: count.count_duplicate
            for (source, name), count in self.counts.items()
            if name == entity
        }
        self._find_replaced(entity, rows)
        after = self.con.sql(
            f"""select r.source, count(*) from {rows} as r
            join old_{entity} as o on r._at = o._at where r._is_new group by r.source"""
        ).fetchall()
        for source, count in after:
            self._count(source, entity).count_duplicate += count - before.get(source, 0)

    def _clean_cases(self) -> None:
        """Events, feedback from messages, feedback as such, and the cases themselves."""
        self._resolve_actors()
        self._clean_subjects()
        self._find_openings()
        self._find_deleted_cases(has_touched=True)
        self._clean_feedback()
        self._clean_messages()
        self._exclude_stored("feedback")
        self._turn_stored()
        # A message that turns out to be an agent's is no feedback any more.
        self._settle(
            "feedback",
            "select feedback_id as id from said where event_type <> 'customer_message' "
            "and event_id not in (select event_id from openings)",
        )
        self._clean_case_rows()
        self._clean_case_events()

    def _resolve_actors(self) -> None:
        """Tables ``said`` (messages with role and event) and ``acts`` (source events with role)."""
        con = self.con
        role = resolve_role("m.author_role", "m.source", "m.author_id", "'customer'")
        con.execute(
            f"""create or replace table said as
            select
                *,
                md5(source || chr(31) || 'message' || chr(31) || source_record_id) as event_id,
                {ref("source", "source_record_id")} as feedback_id,
                {ref("source", "source_case_id")} as case_id,
                case
                    when role = 'customer' then 'customer_message'
                    when role in ('bot', 'system') then 'bot_message'
                    when coalesce(is_public, true) then 'agent_reply'
                    else 'internal_note'
                end as event_type
            from (select m.*, {role} as role from rows_messages as m)"""
        )
        role = resolve_role("e.actor_role", "e.source", "e.actor_id", "'system'")
        con.execute(
            f"""create or replace table acts as
            select
                *,
                {ref("source", "source_event_id")} as event_id,
                {ref("source", "source_case_id")} as case_id
            from (select e.*, {role} as role from rows_case_events as e)"""
        )
        # All that is known of the touched cases, stored rows included whose staging has expired.
        con.execute(
            f"""create or replace table all_acts as
            with known as (
                select event_id, case_id, event_at, event_type, role, sequence, to_value from acts
                union all by name
                select
                    event_id, case_id, created_at as event_at, event_type, role, sequence,
                    null as to_value
                from said
            )
            from known
            union all by name
            select event_id, case_id, event_at, event_type, actor_role as role, sequence, to_value
            from stored_events
            where event_id not in (select event_id from known)
                and event_id not in (
                    select {created_id("source", "source_case_id")} from cases_touched
                )"""
        )

    def _clean_subjects(self) -> None:
        """The table ``subjects``: case_id, subject as it may be shown, reason by text and tags."""
        con = self.con
        con.execute(
            "create or replace table subjects (case_id varchar, subject varchar, reason varchar)"
        )
        query = (
            f"select {ref('source', 'source_case_id')} as case_id, subject, "
            f"{tag_reason('tags')} as reason from rows_cases"
        )
        cursor = con.cursor()
        for batch in cursor.sql(query).to_arrow_reader(BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            subject = self._clean_title(column(table, "subject"))
            found = text.find_reasons(subject, pa.nulls(len(subject), pa.string()))
            is_case_reason = pc.is_in(found, value_set=pa.array(["spam", "test"]))
            found = pc.if_else(is_case_reason, found, None)
            reason = pc.coalesce(column(table, "reason"), found).cast(pa.string())
            table = set_column(set_column(table, "subject", subject), "reason", reason)
            inner = con.cursor()
            inner.register("subject_batch", table)
            inner.execute("insert into subjects select case_id, subject, reason from subject_batch")
            inner.close()
        cursor.close()

    def _find_openings(self) -> None:
        """The table ``openings``: what the customer said that opened its case.

        The customer's first message, unless someone on the agents' side wrote before it. Bots
        greet; that opens nothing. An agent's note of a call says what the customer said: it is
        feedback, and stays the agent's note or reply among the events.
        """
        self.con.execute(
            """create or replace table openings as
            with call_notes as (
                select s.event_id
                from said as s
                left join rows_cases as c
                    on s.source = c.source and s.source_case_id = c.source_case_id
                where s.role = 'agent'
                    and coalesce(nullif(s.channel, 'other'), c.channel) = 'phone'
            )
            select case_id, event_id from (
                select
                    case_id,
                    arg_min(
                        row(event_id, event_type),
                        row(
                            coalesce(epoch_us(event_at), 9000000000000000000),
                            coalesce(sequence, 9000000000000000000), event_id
                        )
                    ) as first
                from all_acts
                where event_type in ('customer_message', 'agent_reply', 'internal_note')
                group by case_id
            ), lateral (select first[1] as event_id, first[2] as event_type)
            where event_type = 'customer_message'
                or event_id in (select event_id from call_notes)"""
        )

    def _find_deleted_cases(self, *, has_touched: bool) -> None:
        """Tables ``deleted_cases`` and ``turned``: stored feedback whose case is deleted only now.

        Among the cases that this run touches and those that new feedback names. A case that is
        there again turns its feedback back.
        """
        con = self.con
        named = f"select {CASE_OF_FEEDBACK} as case_id from {self._latest('feedback')}"
        if has_touched:
            named += " union select case_id from cases_touched"
        con.execute(
            f"create or replace table cases_asked as from ({named}) where case_id is not null"
        )
        is_asked = "case_id in (select case_id from cases_asked)"
        states = self.store.relation("cases", "case_id, status", is_asked)
        acts = self.store.relation(
            "case_events", "case_id, event_id, event_at, event_type, sequence", is_asked
        )
        if has_touched:
            known = ref("source", "source_case_id")
            states = (
                f"select {known} as case_id, status from rows_cases union all by name "
                f"({states} and case_id not in (select {known} from rows_cases))"
            )
            acts = (
                "select case_id, event_id, event_at, event_type, sequence from all_acts "
                "union all by name "
                f"({acts} and case_id not in (select case_id from cases_touched))"
            )
        con.execute(
            f"""create or replace table deleted_cases as
            select case_id from ({states}) where status = 'deleted'
            union
            select case_id from ({acts}) where event_type in ('deleted', 'status_changed')
            group by case_id
            having
                arg_max(event_type, row(event_at, coalesce(sequence, 0), event_id)) = 'deleted'"""
        )
        touched = "case_id in (select case_id from cases_touched)" if has_touched else "false"
        stored = self.store.relation("feedback", "feedback_id, case_id, exclusion_reason", touched)
        con.execute(
            f"""create or replace table turned as
            select f.feedback_id, d.case_id is not null as is_deleted
            from ({stored}) as f left join deleted_cases as d on f.case_id = d.case_id
            where f.exclusion_reason is distinct from 'deleted'
                and (d.case_id is null) = coalesce(f.exclusion_reason = 'case_deleted', false)"""
        )

    def _turn_stored(self) -> None:
        """Put stored feedback aside anew whose case turned and which staging holds no longer."""
        stored = self.store.relation(
            "feedback",
            "*",
            "feedback_id in (select feedback_id from turned) "
            "and feedback_id not in (select id from keys_feedback) "
            "and feedback_id not in (select feedback_id from said)",
        )
        helpers = (
            f"{day_of('feedback')} as _day, null::varchar as _origin, false as _is_new, "
            "if(t.is_deleted, 'case_deleted', null) as _reason, null::varchar as _author"
        )
        query = (
            f"select {self._select('feedback', {'feedback_id': 'r.feedback_id'}, helpers)} "
            f"from ({stored}) as r join turned as t on r.feedback_id = t.feedback_id"
        )
        self._stream("feedback", query, self._finish_feedback)

    def _latest_feedback(self) -> str:
        """SQL: the latest versions of new rows of feedback, and of those whose case turned."""
        if not count_rows(self.con, "turned"):
            return self._latest("feedback")
        rows = (
            f"(select * from {self._staged('feedback', only_new=False)} where _is_new or "
            f"{ref('source', 'source_record_id')} in (select feedback_id from turned))"
        )
        self._find_replaced_again("feedback", rows)
        return f"(select * from {rows} where _at not in (select _at from old_feedback))"

    def _clean_feedback(self) -> None:
        self.con.execute(
            "create or replace table opening_reasons (case_id varchar, reason varchar)"
        )
        customer = ref("coalesce(customer_source, source)", "source_customer_id")
        lowest = default_rating_min("rating_min", "rating_max")
        share = f"(rating - {lowest}) / nullif(rating_max - {lowest}, 0)"
        columns = {
            "feedback_id": ref("source", "source_record_id"),
            "channel": "coalesce(channel, 'other')",
            "case_id": CASE_OF_FEEDBACK,
            "customer_ref": customer,
            "language": normalise_language("language"),
            "rating_min": f"case when rating is null then rating_min else {lowest} end",
            "rating_share": f"case when {share} between 0 and 1 then {share} end",
            "text_hash": "null::varchar",
            "is_opening": "false",
            "duplicate_of": "null::varchar",
            "is_excluded": "false",
            "exclusion_reason": "null::varchar",
        }
        helpers = (
            f"{day_of('feedback')} as _day, 'feedback' as _origin, _is_new, "
            f"coalesce(_gone, if({CASE_OF_FEEDBACK} in (select case_id from deleted_cases), "
            f"'case_deleted', null), {tag_reason('tags')}) as _reason, author as _author"
        )
        rows = self._mark_deleted("feedback", self._latest_feedback())
        query = f"select {self._select('feedback', columns, helpers)} from {rows}"
        self._stream("feedback", query, self._finish_feedback)

    def _clean_messages(self) -> None:
        con = self.con
        con.execute(
            f"""create or replace table customer_messages as
            select
                s._at, s._is_new, s.feedback_id, s.source, s.source_kind, s.source_record_id,
                coalesce(s.url, c.url) as url,
                coalesce(nullif(s.channel, 'other'), c.channel, 'other') as channel,
                s.case_id,
                md5(s.source || chr(31) || coalesce(c.source_customer_id, s.author_id))
                    as customer_ref,
                c.product, s.created_at, s.captured_at,
                o.event_id is not null as is_opening,
                case when o.event_id is not null then u.subject end as title,
                case
                    when {is_gone("s", "d", has_updated=False)} then 'deleted'
                    when s.case_id in (select case_id from deleted_cases) then 'case_deleted'
                    when u.reason in ('spam', 'test') then u.reason
                end as reason
            from said as s
            left join rows_cases as c
                on s.source = c.source and s.source_case_id = c.source_case_id
            left join subjects as u on s.case_id = u.case_id
            left join openings as o on s.event_id = o.event_id
            left join deletions as d
                on d.deleted_entity = 'feedback' and d.record_ref = s.feedback_id
            where s.event_type = 'customer_message' or o.event_id is not null"""
        )
        places = [
            place
            for (place,) in con.sql(
                f"select distinct _at // {FILE_STRIDE} from customer_messages"
            ).fetchall()
        ]
        if not places:
            return
        columns = {
            "feedback_id": "m.feedback_id", "source": "m.source", "source_kind": "m.source_kind",
            "source_record_id": "m.source_record_id", "url": "m.url", "channel": "m.channel",
            "case_id": "m.case_id", "customer_ref": "m.customer_ref", "product": "m.product",
            "language": "null::varchar", "created_at": "m.created_at",
            "updated_at": "null::timestamptz", "captured_at": "m.captured_at", "title": "m.title",
            "body": "b.body", "rating": "null::double", "rating_min": "null::double",
            "rating_max": "null::double", "rating_share": "null::double",
            "text_hash": "null::varchar", "is_opening": "m.is_opening",
            "duplicate_of": "null::varchar", "is_excluded": "false",
            "exclusion_reason": "null::varchar",
        }  # fmt: skip
        day = day_of("feedback").replace(
            "(created_at, captured_at)", "(m.created_at, m.captured_at)"
        )
        helpers = (
            f"{day} as _day, 'messages' as _origin, m._is_new, m.reason as _reason, "
            "null::varchar as _author"
        )
        query = (
            f"select {self._select('feedback', columns, helpers)} "
            f"from {self._staged('messages', only_new=False, among=places)} as b "
            "join customer_messages as m on b._at = m._at"
        )
        self._stream("feedback", query, self._finish_feedback)

    def _clean_case_rows(self) -> None:
        con = self.con
        # The submitter opened a case; else who the source's own event names; else the customer.
        role = resolve_role("null::varchar", "c.source", "c.submitter_id", "null::varchar")
        con.execute(
            f"""create or replace table opened as
            select
                c.source, c.source_case_id,
                coalesce(
                    {role},
                    (
                        select arg_min(a.role, a.event_at) from all_acts as a
                        where a.case_id = {ref("c.source", "c.source_case_id")}
                            and a.event_type = 'created'
                    ),
                    'customer'
                ) as role
            from rows_cases as c"""
        )
        con.execute(
            f"""create or replace table case_facts as
            with acted as (
                select
                    case_id,
                    bool_or(event_type = 'customer_message') as has_customer_message,
                    arg_max(to_value, event_at) filter (where event_type = 'merged') as merged_to,
                    bool_or(event_type = 'merged') as is_merged
                from all_acts group by case_id
            )
            select
                c.*, u.case_id as id, u.subject as clean_subject, p.role as opened_by_role,
                case
                    when u.case_id in (select case_id from deleted_cases) then 'deleted'
                    when c.merged_into is not null
                        or (coalesce(a.is_merged, false)
                            and coalesce(a.merged_to, '') <> c.source_case_id)
                        or {has_tag("c.tags", text.MERGE_TAGS)} then 'merged'
                    when u.reason = 'spam' or r.reason = 'spam' then 'spam'
                    when u.reason = 'test' or r.reason = 'test' then 'test'
                    when p.role in ('bot', 'system')
                        and coalesce(c.source_customer_id, c.submitter_id, '')
                            = coalesce(c.submitter_id, '')
                        and not coalesce(a.has_customer_message, false) then 'opened_by_bot'
                end as reason
            from rows_cases as c
            join subjects as u on u.case_id = md5(c.source || chr(31) || c.source_case_id)
            join opened as p on c.source = p.source and c.source_case_id = p.source_case_id
            left join acted as a on a.case_id = u.case_id
            left join opening_reasons as r on r.case_id = u.case_id"""
        )
        columns = {
            "case_id": "id",
            "subject": "clean_subject",
            "customer_ref": ref("source", "source_customer_id"),
            "assignee_ref": ref("source", "assignee_id"),
            "merged_into": ref("source", "merged_into"),
            "is_excluded": "reason is not null",
            "exclusion_reason": "reason",
        }
        helpers = f"{day_of('cases')} as _day, 'cases' as _origin, _is_new"
        query = f"select {self._select('cases', columns, helpers)} from case_facts"
        self._stream("cases", query, lambda batch: batch)
        self._settle("cases")

    def _clean_case_events(self) -> None:
        con = self.con
        helpers = ", ".join([f"{day_of('case_events')} as _day", "_origin", "_is_new"])
        created = created_id("c.source", "c.source_case_id")
        query = f"""
            select
                event_id, case_id, source, created_at as event_at, event_type,
                {ref("source", "author_id")} as actor_ref, role as actor_role, is_public,
                null::varchar as from_value, null::varchar as to_value, sequence,
                'messages' as _origin, _is_new
            from said
            union all by name
            select
                event_id, case_id, source, event_at, event_type,
                {ref("source", "actor_id")} as actor_ref, role as actor_role, is_public,
                from_value, to_value, sequence, 'case_events' as _origin, _is_new
            from acts
            union all by name
            select
                {created} as event_id, c.id as case_id, c.source, c.opened_at as event_at,
                'created' as event_type,
                {ref("c.source", "coalesce(c.submitter_id, c.source_customer_id)")} as actor_ref,
                c.opened_by_role as actor_role, true as is_public, null::varchar as from_value,
                null::varchar as to_value, -1::bigint as sequence, null::varchar as _origin,
                c._is_new
            from case_facts as c
            where c.opened_at is not null and c.id not in (
                select case_id from all_acts where event_type = 'created' and case_id is not null
            )"""
        listed = ", ".join(fact_columns("case_events"))
        self._stream(
            "case_events", f"select {listed}, {helpers} from ({query})", lambda batch: batch
        )
        # The event that stood in for the source's own goes when that one comes.
        removed = (
            f"select {created_id('source', 'source_case_id')} as id from cases_touched "
            "where case_id in (select case_id from all_acts where event_type = 'created')"
        )
        self._settle("case_events", removed)
        assert con


def created_id(source: str, case: str) -> str:
    """SQL: the id of the ``created`` event of a case whose source gives none."""
    return f"md5({source} || chr(31) || 'created' || chr(31) || {case})"


def column(table: pa.Table, name: str) -> pa.Array:
    """One column as a single array of its plain type."""
    return table[name].combine_chunks()


def set_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
