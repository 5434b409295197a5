"""Kind ``imap`` on a server of Dovecot, where one is installed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import HearbackError
from pipelines.settings import Source
from pipelines.sources import imap
from tests.pipelines.sources.imap.dovecot import Dovecot, is_installed, start_dovecot
from tests.pipelines.sources.imap.server import LOGIN, PASSWORD
from tests.pipelines.sources.imap.test_imap import PAYLOADS, SENT, answer, letter
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="needs the package dovecot-imapd, version 2.3"
)
AT = datetime(2026, 11, 10, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
CUSTOMERS = "&W6JiNw-"  # 客户


@pytest.fixture(autouse=True)
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"login": LOGIN, "password": PASSWORD}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(secrets))
    monkeypatch.setattr(imap, "WAITS", (0.01, 0.01, 0.01))


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    with start_dovecot(LOGIN, PASSWORD) as server:
        yield server


def source_of(server: Dovecot, **options: Any) -> Source:
    given = {"own": ["@acme.example"], "security": "none", **options}
    return make_source("imap", server.url, options=given)


def encode_word(text: str, charset: str) -> str:
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset)).decode()}?="


def test_messages_of_all_kinds_arrive_as_from_the_tests_own_server(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    for path in sorted(PAYLOADS.glob("*.eml")):
        folder = "Sent" if path.stem in SENT else "INBOX"
        dovecot.add(folder, path.read_bytes(), datetime(2026, 11, 9, tzinfo=UTC))
    source = source_of(dovecot)
    found, position = pull_all(source, tmp_path)
    assert {len(sent) for sent in found["messages"].values()} == {1}
    assert len(found["messages"]) == 12
    assert pull_all(source, tmp_path, position) == ({}, position)
    with dovecot.sign_in() as box:
        box.select("INBOX", readonly=True)
        assert box.search(None, "SEEN")[1] == [b""], "nothing is marked as read"


@pytest.mark.parametrize("charset", ["gb18030", "big5", "utf-8"])
def test_subjects_and_texts_beyond_ascii(dovecot: Dovecot, tmp_path: Path, charset: str) -> None:
    is_old = charset == "big5"
    text, subject, name = (
        ("水壺漏水，很失望。", "關於退款", "王小偉")
        if is_old
        else ("水壶漏水，很失望。", "关于退款", "王小伟")
    )
    sender = f"{encode_word(name, charset)} <wang@customer.example>"
    for form, encoding in (("raw", "8bit"), ("packed", "base64")):
        head = letter(
            f"{form}-{charset}", AT, body="", Subject=encode_word(subject, charset),
            Content_Type=f"text/plain; charset={charset}", Content_Transfer_Encoding=encoding,
            From=sender,
        )  # fmt: skip
        body = text.encode(charset)
        body = base64.b64encode(body) if encoding == "base64" else body
        dovecot.add(CUSTOMERS, head + body, AT)
    bare = letter(f"bare-{charset}", AT, body="", Subject="@@").replace(
        b"@@", subject.encode(charset)
    )  # as old programs write it, without a word of its character set
    if not is_old:
        dovecot.add(CUSTOMERS, bare + text.encode("utf-8"), AT)
    rows = stage(tmp_path, source_of(dovecot, folders=["客户"]))
    for form in ("raw", "packed"):
        row = one(rows["messages"], source_record_id=f"{form}-{charset}@customer.example")
        assert row["body"] == text
    subjects = {row["subject"] for row in rows["cases"]}
    assert subjects == {subject}
    assert len(rows["messages"]) == (2 if is_old else 3)
    assert {row["name"] for row in rows["customers"]} <= {name, "Ann"}
    assert quarantined(tmp_path, source_of(dovecot, folders=["客户"])) == []


def test_threads_join_across_folders(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.add(CUSTOMERS, letter("c1", AT), AT)
    dovecot.add("Sent", answer("a1", AT + HOUR, In_Reply_To="<c1@customer.example>"), AT + HOUR)
    rows = stage(tmp_path, source_of(dovecot))
    (case,) = rows["cases"][-1:]
    assert case["status"] == "pending"
    assert {row["source_case_id"] for row in rows["messages"]} == {case["source_case_id"]}
    assert sorted(row["author_role"] for row in rows["messages"]) == ["agent", "customer"]


def test_uids_that_mean_others_now_are_read_again(dovecot: Dovecot, tmp_path: Path) -> None:
    for number in range(5):
        dovecot.add("INBOX", letter(f"m{number}", AT), AT)
    source = source_of(dovecot)
    found, position = pull_all(source, tmp_path)
    with dovecot.sign_in() as box:
        box.select("INBOX")
        box.store("1", "+FLAGS", r"(\Deleted)")
        box.expunge()
    dovecot.administer("mailbox", "update", "-u", LOGIN, "--uid-validity", "99", "INBOX")
    dovecot.add("INBOX", letter("new", AT + HOUR), AT + HOUR)
    again, position = pull_all(source, tmp_path, position)
    assert ids(found, "messages") | ids(again, "messages") == {
        *(f"m{number}@customer.example" for number in range(5)), "new@customer.example",
    }  # fmt: skip
    assert position["folders"]["INBOX"]["validity"] == 99
    assert pull_all(source, tmp_path, position)[0] == {}


def test_a_message_that_was_moved_comes_once(dovecot: Dovecot, tmp_path: Path) -> None:
    dovecot.add("INBOX", letter("m1", AT), AT)
    source = source_of(dovecot)
    found, position = pull_all(source, tmp_path)
    with dovecot.sign_in() as box:
        box.create(CUSTOMERS)
        box.select("INBOX")
        assert box._simple_command("MOVE", "1", CUSTOMERS)[0] == "OK"
    again, _ = pull_all(source, tmp_path, position)
    assert (ids(found, "messages"), dict(again)) == ({"m1@customer.example"}, {})


def test_a_pull_stopped_after_each_batch_has_all_of_it(
    dovecot: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "TEXTS_AT_ONCE", 2)
    monkeypatch.setattr(imap, "HEADERS_AT_ONCE", 3)
    for number in range(7):
        dovecot.add("INBOX", letter(f"m{number}", AT + number * HOUR), AT)
    found = pull_stopping(source_of(dovecot), tmp_path)
    assert ids(found, "messages") == {f"m{number}@customer.example" for number in range(7)}


def test_a_folder_that_the_login_may_not_open_is_skipped_with_a_note(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    dovecot.add("INBOX", letter("m1", AT), AT)
    dovecot.add("Boss", letter("m2", AT), AT)
    (path,) = (dovecot.folder / "mail").glob("*/.Boss")
    (path / "dovecot-acl").write_text("owner l\n")
    told: list[str] = []
    source = source_of(dovecot)
    found, _ = pull_all(source, tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "messages") == {"m1@customer.example"}
    assert len([line for line in told if "'Boss'" in line and "Permission denied" in line]) == 1


def test_wrong_credentials_name_the_connection(
    dovecot: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"login": LOGIN, "password": "mistyped-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps(wrong))
    with pytest.raises(HearbackError, match=r"credentials were refused.*connection 'desk'") as told:
        pull_all(source_of(dovecot), tmp_path)
    assert "mistyped" not in told.value.message


def test_a_big_mailbox_is_read_whole(dovecot: Dovecot, tmp_path: Path) -> None:
    text = letter("m0", AT, body="x" * 3000)
    with dovecot.sign_in() as box:
        for number in range(300):
            box.append("INBOX", "", None, text.replace(b"<m0@", f"<m{number}@".encode()))
    found, _ = pull_all(source_of(dovecot), tmp_path)
    assert len(found["messages"]) == 300
    assert len(latest(found, "messages")["m299@customer.example"]["said"]) == 3000
