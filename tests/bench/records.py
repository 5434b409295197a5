"""Records for the bench: made up, mixed Chinese and English, the same for the same seed.

The texts come from the demo's phrase banks, two or three pieces a record, so that hardly any text
is said twice by chance. What has to be dealt with is mixed in at known rates: phone numbers and
mail addresses, texts said twice word for word and nearly so, and rows that no one can use.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.demo import catalog
from pipelines.demo.texts import Writer

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DAYS = 90
BLOCK_ROWS = 100_000
POOL = 24_000
SHARE_ZH = 0.5
SHARE_CONTACT = 0.03
SHARE_REPEATED = 0.01
SHARE_NEARLY = 0.01
SHARE_BAD = 0.005
STYLES = ("app", "review", "survey", "web")
KINDS = ("complaint", "complaint", "question", "suggestion", "praise", "other")
STARS = {"negative": (1, 1, 2, 2, 3), "neutral": (3, 3, 4, 4, 5), "positive": (4, 5, 5, 5, 5)}
VERSION = 3  # of the records: a cached file of another version is made again


@dataclass(frozen=True)
class Pool:
    """Pieces of text, already escaped for JSON, and the stars that go with each."""

    bodies: pa.Array
    extras: pa.Array
    contacts: pa.Array
    stars: np.ndarray


def escape(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def make_pool(language: str, seed: int) -> Pool:
    """POOL texts of one language, as many short sentences, and sentences with a contact in them."""
    rng = random.Random(f"{language}-{seed}")
    writer = Writer(language, rng)
    bodies, extras, contacts, stars = [], [], [], []
    say_phone = {"en": "Call me on {}.", "zh": "请打{}联系我。"}[language]
    say_mail = {"en": "Write to {}, please.", "zh": "请回邮件到{}，谢谢。"}[language]
    for _ in range(POOL):
        product = rng.choice(catalog.PRODUCTS)
        topic = writer.choose_topic(product, rng.choice(KINDS))
        facts = writer.facts(product, NOW - timedelta(days=rng.randint(1, DAYS)))
        written = writer.write(topic, rng.choice(STYLES), facts)
        bodies.append(escape(written.body))
        extra = writer.say(topic, rng.choice(("detail", "effect", "ask")), facts)
        extras.append(escape(extra or writer.say_extra("close_casual", facts)))
        if rng.random() < 0.5:
            contacts.append(say_phone.format(facts.get("phone")))
        else:
            contacts.append(say_mail.format(facts.get("email")))
        stars.append(rng.choice(STARS[written.label.sentiment]))
    return Pool(pa.array(bodies), pa.array(extras), pa.array(contacts), np.array(stars, np.int8))


def choose(pool: pa.Array, rng: np.random.Generator, rows: int) -> pa.Array:
    return pool.take(pa.array(rng.integers(0, len(pool), rows)))


def make_texts(pool: Pool, rng: np.random.Generator, rows: int, language: str) -> pa.Array:
    """(texts, stars) of rows records of one language."""
    first = rng.integers(0, len(pool.bodies), rows)
    pieces = [pool.bodies.take(pa.array(first)), choose(pool.extras, rng, rows)]
    if language == "zh":  # a Han character says as much as two or three letters
        pieces.insert(1, choose(pool.bodies, rng, rows))
    gap = "" if language == "zh" else " "
    contact = pc.binary_join_element_wise("", choose(pool.contacts, rng, rows), gap)
    has_contact = pa.array(rng.random(rows) < SHARE_CONTACT)
    texts = pc.binary_join_element_wise(*pieces, gap)
    texts = pc.binary_join_element_wise(texts, pc.if_else(has_contact, contact, ""), "")
    return texts, pool.stars[first]


def change_slightly(text: str) -> str:
    """The same words typed once more: other spaces, stops and capitals."""
    return "  " + text.replace(",", " ,").replace("，", ",").replace("。", "！").upper() + "!!"


def make_bad(kind: int, record_id: str, created: str) -> bytes:
    """One row that cannot be used; ``kind`` chooses among ten ways."""
    good = {"id": record_id, "user": "u1", "created": created, "text": "很好用", "stars": 5}
    good["product"] = "lumo"
    changes: tuple[Callable[[], dict[str, object]], ...] = (
        lambda: {"id": None},
        lambda: {"created": "2026-13-45"},
        lambda: {"created": "1970-01-02T00:00:00Z"},
        lambda: {"stars": 9},
        lambda: {"stars": "five"},
        lambda: {"text": "  　"},
        lambda: {"text": "too long " * 2300},
        lambda: {"text": "a\x00b"},
    )
    if kind < len(changes):
        return json.dumps(good | changes[kind](), ensure_ascii=False).encode()
    if kind == len(changes):
        return json.dumps(good, ensure_ascii=False).encode()[:-9]
    return json.dumps(good | {"text": "caf\u00e9"}, ensure_ascii=False).encode("latin-1", "replace")


def make_block(
    pools: dict[str, Pool], rng: np.random.Generator, start: int, rows: int, prefix: str, days: int
) -> bytes:
    """Rows start … start + rows as JSON lines."""
    count_zh = round(rows * SHARE_ZH)
    zh, stars_zh = make_texts(pools["zh"], rng, count_zh, "zh")
    en, stars_en = make_texts(pools["en"], rng, rows - count_zh, "en")
    shuffle = rng.permutation(rows)
    texts = pa.concat_arrays([zh, en]).take(pa.array(shuffle))
    stars = np.concatenate([stars_zh, stars_en])[shuffle]
    ids = [f"{prefix}{n}" for n in range(start, start + rows)]
    users = rng.integers(0, max(rows // 3, 50), rows)

    # a text said again stands some rows below the first, same user and product
    again = np.flatnonzero(rng.random(rows) < SHARE_REPEATED + SHARE_NEARLY)
    again = again[again > 200]
    source = again - rng.integers(1, 200, len(again))
    words = texts.take(pa.array(source)).to_pylist()
    is_near = rng.random(len(again)) < SHARE_NEARLY / (SHARE_REPEATED + SHARE_NEARLY)
    words = [
        change_slightly(w) if near and "\\" not in w else w
        for w, near in zip(words, is_near, strict=True)
    ]
    mask = np.zeros(rows, bool)
    mask[again] = True
    texts = pc.replace_with_mask(texts, pa.array(mask), pa.array(words, pa.string()))
    users[again] = users[source]
    products = rng.integers(0, len(catalog.PRODUCTS), rows)
    products[again] = products[source]

    seconds = rng.integers(0, days * 86_400, rows)
    created = pc.strftime(
        pa.array(np.datetime64(NOW.replace(tzinfo=None), "s") - seconds.astype("timedelta64[s]")),
        format="%Y-%m-%dT%H:%M:%SZ",
    )
    keys = pa.array([p.key for p in catalog.PRODUCTS])
    lines = pc.binary_join_element_wise(
        '{"id":"', pa.array(ids),
        '","user":"u', pa.array(users).cast(pa.string()),
        '","created":"', created,
        '","text":"', texts,
        '","stars":', pa.array(stars).cast(pa.string()),
        ',"product":"', keys.take(pa.array(products)),
        '"}', "",
    )  # fmt: skip
    encoded = lines.cast(pa.binary()).to_pylist()
    bad = np.flatnonzero(rng.random(rows) < SHARE_BAD)
    for place, kind in zip(bad.tolist(), rng.integers(0, 10, len(bad)).tolist(), strict=True):
        encoded[place] = make_bad(kind, ids[place], created[place].as_py())
    return b"\n".join(encoded) + b"\n"


def bench_folder() -> Path:
    """Where records and runs of the bench are kept, outside the project."""
    return Path(os.environ.get("HEARBACK_BENCH", Path(tempfile.gettempdir()) / "hearback-bench"))


def make_records(
    rows: int,
    *,
    prefix: str = "r",
    seed: int = 1,
    days: int = DAYS,
    progress: Callable[[int], None] = lambda rows: None,
) -> Path:
    """A JSON lines file of feedback, made once and kept; created over ``days`` days before NOW."""
    folder = bench_folder() / "records"
    path = folder / f"v{VERSION}-{prefix}-{rows}-{seed}-{days}.jsonl"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    pools = {language: make_pool(language, seed) for language in ("zh", "en")}
    rng = np.random.default_rng(seed)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with open(aside, "wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - start)
            file.write(make_block(pools, rng, start, count, prefix, days))
            progress(start + count)
    aside.replace(path)
    return path
