"""Mailboxes: threads, who speaks, folders that move, servers that break off, every column."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pipelines import clean
from pipelines.context import Run
from pipelines.errors import HearbackError, UsageError
from pipelines.mapping import used_fields
from pipelines.settings import Source
from pipelines.sources import find_kind, imap
from tests.pipelines.sources.imap.server import LOGIN, PASSWORD, TOKEN, Folder, ImapServer
from tests.pipelines.sources.pulling import (
    ids,
    latest,
    make_context,
    make_run,
    make_source,
    one,
    pull_all,
    pull_stopping,
    quarantined,
    stage,
)
from tests.pipelines.sources.vendor_server import Answer, Request, VendorServer

PAYLOADS = Path(__file__).parent / "payloads"
BY_PASSWORD = json.dumps({"login": LOGIN, "password": PASSWORD})
BY_TOKEN = json.dumps({"login": LOGIN, "extra": {"access_token": TOKEN}})
SENT = ("02_answer", "12_note")
THREAD = "c1@customer.example"


def load(name: str) -> bytes:
    return (PAYLOADS / f"{name}.eml").read_bytes()


def letter(
    name: str, at: datetime, *, to: str = LOGIN, body: str = "It leaks.", **heads: str
) -> bytes:
    told = {
        "Message-ID": f"<{name}@customer.example>",
        "Date": at.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        "From": "Ann <ann@customer.example>",
        "To": to,
        "Subject": "The tap",
        "Content-Type": "text/plain; charset=utf-8",
        **{key.replace("_", "-"): value for key, value in heads.items()},
    }
    return "\r\n".join([*(f"{k}: {v}" for k, v in told.items() if v), "", body]).encode()


def answer(name: str, at: datetime, **heads: str) -> bytes:
    heads = {"From": "Li Na <li.na@acme.example>", **heads}
    return letter(name, at, to="ann@customer.example", body="We come tomorrow.", **heads)


AT = datetime(2026, 11, 10, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_PASSWORD)
    monkeypatch.setattr(imap, "WAITS", (0.01, 0.01, 0.01))


@pytest.fixture
def box() -> Iterator[ImapServer]:
    with ImapServer() as server:
        for path in sorted(PAYLOADS.glob("*.eml")):
            folder = "Sent" if path.stem in SENT else "INBOX"
            server.folders[folder].add(path.read_bytes(), datetime(2026, 11, 9, tzinfo=UTC))
        yield server


@pytest.fixture
def empty() -> Iterator[ImapServer]:
    with ImapServer() as server:
        yield server


def source_of(server: ImapServer, **options: Any) -> Source:
    start = options.pop("start", None)
    given = {"own": ["@acme.example"], "security": "none", **options}
    return make_source("imap", server.url, options=given, start=start)


def said(server: ImapServer, folder: Path, record: str) -> dict[str, Any]:
    found, _ = pull_all(source_of(server), folder)
    payload: dict[str, Any] = latest(found, "messages")[record]
    return payload


def facts(run: Run, entity: str) -> list[dict[str, Any]]:
    entries = run.lake.facts_manifest()["partitions"][entity].values()
    return [row for entry in entries for row in run.lake.read_table(entry).to_pylist()]


# Reading ------------------------------------------------------------------------------------------


def test_every_message_of_every_folder_comes_once(box: ImapServer, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12
    assert all(len(payloads) == 1 for payloads in found["messages"].values())


def test_the_mailbox_is_only_looked_at(box: ImapServer, tmp_path: Path) -> None:
    pull_all(source_of(box), tmp_path)
    assert box.violations == []


def test_a_second_pull_reads_no_message(box: ImapServer, tmp_path: Path) -> None:
    _, position = pull_all(source_of(box), tmp_path)
    box.commands.clear()
    found, again = pull_all(source_of(box), tmp_path, position)
    assert (dict(found), again) == ({}, position)
    assert not any("FETCH" in command for command in box.commands)


def test_a_pull_stopped_after_each_batch_has_all_of_it(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "TEXTS_AT_ONCE", 2)
    monkeypatch.setattr(imap, "HEADERS_AT_ONCE", 3)
    whole, _ = pull_all(source_of(box), tmp_path / "whole")
    found = pull_stopping(source_of(box), tmp_path / "steps")
    assert latest(found, "messages") == latest(whole, "messages")
    assert all(len(payloads) == 1 for payloads in found["messages"].values())


def test_drafts_trash_and_junk_are_left_out(empty: ImapServer, tmp_path: Path) -> None:
    for name, flags in {
        "Trash": "\\Trash", "Spam": "\\Junk", "Drafts": "\\Drafts", "Stars": "\\Flagged",
        "草稿箱": "", "Old": "",
    }.items():  # fmt: skip
        if name.isascii():
            empty.folders[name] = Folder(flags)
            empty.folders[name].add(letter(name, AT))
    empty.folders["&g0l6P3ux-"] = Folder()  # 草稿箱
    empty.folders["&g0l6P3ux-"].add(letter("draft", AT))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert ids(found, "messages") == {"Old@customer.example"}


def test_archived_mail_is_found_in_the_folder_of_all_mail(
    empty: ImapServer, tmp_path: Path
) -> None:
    whole = {"All": Folder("\\All")}
    empty.folders = whole | empty.folders
    for name in ("kept", "archived", "draft"):
        uid = empty.folders["All"].add(letter(name, AT))
        empty.folders["All"].messages[uid].flags = "\\Draft" if name == "draft" else "\\Seen"
    empty.folders["INBOX"].add(letter("kept", AT))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert {key: len(told) for key, told in found["messages"].items()} == {
        "kept@customer.example": 1,
        "archived@customer.example": 1,
    }


def test_a_folder_with_a_chinese_name_is_read(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["&W6JiNw-"] = Folder()
    empty.folders["&W6JiNw-"].add(letter("c", AT))
    found, _ = pull_all(source_of(empty, folders=["客户"]), tmp_path)
    assert ids(found, "messages") == {"c@customer.example"}


def test_a_folder_that_is_not_there_is_named(box: ImapServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder 'Inbox_'.*folders are: INBOX, Sent"):
        pull_all(source_of(box, folders=["Inbox_"]), tmp_path)


def test_a_folder_that_the_login_may_not_open_is_skipped_with_a_note(
    box: ImapServer, tmp_path: Path
) -> None:
    whole, _ = pull_all(source_of(box), tmp_path / "whole")
    box.folders["Boss"] = Folder()
    box.fail('EXAMINE "?Boss', "NO [NOPERM] Permission denied", times=99)
    told: list[str] = []
    found, _ = pull_all(source_of(box), tmp_path, progress=lambda text, rows: told.append(text))
    assert ids(found, "messages") == ids(whole, "messages")
    (line,) = [text for text in told if "not read" in text]
    assert "source 'desk': folder 'Boss': [NOPERM] Permission denied" in line
    with pytest.raises(HearbackError, match=r"^source 'desk': .*'Boss'.*Permission denied"):
        pull_all(source_of(box, folders=["Boss"]), tmp_path)


def test_start_leaves_older_messages_out(empty: ImapServer, tmp_path: Path) -> None:
    for day in (1, 5, 9):
        empty.folders["INBOX"].add(letter(f"d{day}", AT), datetime(2026, 11, day, 9, tzinfo=UTC))
    found, _ = pull_all(source_of(empty, start=date(2026, 11, 5)), tmp_path)
    assert ids(found, "messages") == {"d5@customer.example", "d9@customer.example"}


def test_a_message_that_was_moved_comes_once(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    uid = inbox.add(letter("a", AT))
    _, position = pull_all(source_of(empty), tmp_path)
    empty.folders["Done"] = Folder()
    empty.folders["Done"].add(inbox.messages.pop(uid).data)
    found, _ = pull_all(source_of(empty), tmp_path, position)
    assert found["messages"] == {}


def test_a_message_moved_while_it_is_read_is_not_lost(empty: ImapServer, tmp_path: Path) -> None:
    inbox, done = empty.folders["INBOX"], empty.folders.setdefault("Done", Folder())
    uid = inbox.add(letter("a", AT))

    def move(line: str) -> None:
        if "BODY.PEEK[]" in line and uid in inbox.messages:
            done.add(inbox.messages.pop(uid).data)

    empty.on_command = move
    found, position = pull_all(source_of(empty), tmp_path)
    more, _ = pull_all(source_of(empty), tmp_path, position)
    assert ids(found, "messages") | ids(more, "messages") == {"a@customer.example"}


def test_a_message_moved_after_a_crash_is_not_lost(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    uid = inbox.add(letter("a", AT))
    pull_all(source_of(empty), tmp_path)  # its batch is never committed
    empty.folders["Done"] = Folder()
    empty.folders["Done"].add(inbox.messages.pop(uid).data)
    found, _ = pull_all(source_of(empty), tmp_path)
    assert ids(found, "messages") == {"a@customer.example"}


def test_what_is_expunged_stays_captured_and_hinders_nothing(
    empty: ImapServer, tmp_path: Path
) -> None:
    inbox = empty.folders["INBOX"]
    gone = inbox.add(letter("a", AT))
    _, position = pull_all(source_of(empty), tmp_path)
    del inbox.messages[gone]
    inbox.add(letter("b", AT))
    found, _ = pull_all(source_of(empty), tmp_path, position)
    assert ids(found, "messages") == {"b@customer.example"}


def test_a_copy_in_another_folder_is_the_same_message(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["Label"] = Folder()
    for folder in ("INBOX", "Label"):
        empty.folders[folder].add(letter("a", AT))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert {key: len(told) for key, told in found["messages"].items()} == {"a@customer.example": 1}


def test_two_messages_of_one_message_id_are_two(empty: ImapServer, tmp_path: Path) -> None:
    for hours in (0, 1):
        empty.folders["INBOX"].add(letter("same", AT + hours * HOUR, Subject=f"Alarm {hours}"))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert len(found["messages"]) == 2


def test_uids_that_mean_others_now_are_read_again(box: ImapServer, tmp_path: Path) -> None:
    first, position = pull_all(source_of(box), tmp_path)
    inbox = box.folders["INBOX"]
    inbox.validity = 8
    kept = [message.data for message in reversed(inbox.messages.values())]
    inbox.messages.clear()
    inbox.next_uid = 1
    for data in [*kept, letter("new", AT)]:
        inbox.add(data, datetime(2026, 11, 9, tzinfo=UTC))
    found, _ = pull_all(source_of(box), tmp_path, position)
    told = latest(found, "messages")
    assert told.pop("new@customer.example")
    assert told == {key: latest(first, "messages")[key] for key in told}
    assert len(told) == 10


def test_state_that_was_lost_is_read_again(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["INBOX"].add(letter("a", AT))
    _, position = pull_all(source_of(empty), tmp_path)
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    empty.folders["INBOX"].add(
        letter("b", AT + HOUR, In_Reply_To="<a@customer.example>", Subject="Re: The tap")
    )
    found, _ = pull_all(source_of(empty), tmp_path, position)
    assert ids(found, "messages") == {"b@customer.example"}
    assert found["messages"]["b@customer.example"][0]["thread"] == "a@customer.example"


def test_a_big_message_is_read_in_part(empty: ImapServer, tmp_path: Path) -> None:
    body = "It leaks.\r\n--mix\r\nContent-Type: image/png; name=a.png\r\n"
    body += "Content-Transfer-Encoding: base64\r\n\r\n" + "QUJD" * 50_000
    kind = "multipart/mixed; boundary=mix"
    whole = "--mix\r\nContent-Type: text/plain\r\n\r\n" + body
    empty.folders["INBOX"].add(letter("big", AT, body=whole, Content_Type=kind))
    found, _ = pull_all(source_of(empty, max_bytes=8192), tmp_path)
    told = latest(found, "messages")["big@customer.example"]
    assert (told["said"], told["is_cut"]) == ("It leaks.", True)
    assert told["size"] > 200_000
    assert told["attachment_names"] == ["a.png"]
    assert "BODY.PEEK[]<0.8192>" in " ".join(empty.commands)


# Threads ------------------------------------------------------------------------------------------


def threads_of(found: Any) -> dict[str, str]:
    return {
        key.partition("@")[0]: told["thread"].partition("@")[0]
        for key, told in latest(found, "messages").items()
    }


def test_answers_join_their_thread_by_either_header(box: ImapServer, tmp_path: Path) -> None:
    found, _ = pull_all(source_of(box), tmp_path)
    told = latest(found, "messages")
    joined = {key for key, payload in told.items() if payload["thread"] == THREAD}
    assert joined == {
        THREAD, "a1@acme.example", "c2@customer.example", "c3@customer.example",
        "o1@customer.example", "b1@mx.customer.example", "i1@acme.example",
    }  # fmt: skip


def test_an_answer_that_is_found_late_joins_two_threads(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    inbox.add(letter("c1", AT))
    inbox.add(letter("c2", AT + 2 * HOUR, In_Reply_To="<a1@customer.example>", Subject="More"))
    first, position = pull_all(source_of(empty), tmp_path)
    assert threads_of(first) == {"c1": "c1", "c2": "a1"}
    late = answer("a1", AT + HOUR, In_Reply_To="<c1@customer.example>", Subject="Re: The tap")
    empty.folders["Sent"].add(late)
    found, position = pull_all(source_of(empty), tmp_path, position)
    assert threads_of(found) == {"a1": "c1", "c2": "c1"}
    merged = {"thread": "a1@customer.example", "into": "c1@customer.example"}
    assert latest(found, "merges")["a1@customer.example"].items() >= merged.items()
    again, _ = pull_all(source_of(empty), tmp_path, position)
    assert dict(again) == {}


def test_a_join_that_was_not_committed_is_told_again(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    inbox.add(letter("c1", AT))
    inbox.add(letter("c2", AT + 2 * HOUR, In_Reply_To="<a1@customer.example>", Subject="More"))
    _, position = pull_all(source_of(empty), tmp_path)
    empty.folders["Sent"].add(answer("a1", AT + HOUR, In_Reply_To="<c1@customer.example>"))
    first, _ = pull_all(source_of(empty), tmp_path, position)
    again, _ = pull_all(source_of(empty), tmp_path, position)
    assert again == first


def test_an_older_answer_found_late_tells_the_case_again(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    inbox.add(letter("c1", AT))
    inbox.add(letter("c2", AT + 2 * HOUR, References="<c1@customer.example>"))
    first, position = pull_all(source_of(empty), tmp_path)
    assert first["messages"]["c2@customer.example"][0]["case"]["assignee"] is None
    empty.folders["Sent"].add(answer("a1", AT + HOUR, References="<c1@customer.example>"))
    found, _ = pull_all(source_of(empty), tmp_path, position)
    told = found["messages"]["c2@customer.example"][0]["case"]
    assert told["assignee"] == imap.hash_address("li.na@acme.example")


@pytest.mark.parametrize(("days", "is_joined"), [(3, True), (60, False)])
def test_an_answer_without_references_joins_by_subject_and_customer(
    empty: ImapServer, tmp_path: Path, days: int, is_joined: bool
) -> None:
    inbox = empty.folders["INBOX"]
    inbox.add(letter("a", AT - timedelta(days=days)))
    inbox.add(letter("b", AT, Subject="回复: Re：The tap"))
    inbox.add(letter("c", AT, Subject="Re: The tap", From="Bo <bo@other.example>"))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert threads_of(found) == {"a": "a", "b": "a" if is_joined else "b", "c": "c"}


def test_a_new_message_of_the_same_subject_is_a_new_case(empty: ImapServer, tmp_path: Path) -> None:
    for name in "ab":
        empty.folders["INBOX"].add(letter(name, AT))
    found, _ = pull_all(source_of(empty), tmp_path)
    assert threads_of(found) == {"a": "a", "b": "b"}


# What becomes of it -------------------------------------------------------------------------------


def test_a_case_has_every_column(box: ImapServer, tmp_path: Path) -> None:
    case = one(stage(tmp_path, source_of(box))["cases"], source_case_id=THREAD)
    mei, li = (
        imap.hash_address("mei.chen@customer.example"),
        imap.hash_address("li.na@acme.example"),
    )
    assert case["channel"] == "email"
    assert case["subject"] == "The charger does not fit"
    assert case["source_customer_id"] == mei
    assert case["submitter_id"] == mei
    assert case["status"] == "open"
    assert case["assignee_id"] == li
    assert case["opened_at"] == datetime(2026, 11, 2, 1, tzinfo=UTC)
    assert case["updated_at"] == datetime(2026, 11, 4, 2, tzinfo=UTC)


def test_a_case_whose_last_word_is_an_agents_is_pending(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["INBOX"].add(letter("a", AT, to="Billing <billing@acme.example>"))
    empty.folders["Sent"].add(answer("b", AT + HOUR, References="<a@customer.example>"))
    case = one(stage(tmp_path, source_of(empty))["cases"])
    assert case["status"] == "pending"


def test_a_case_names_the_address_that_it_came_to(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["INBOX"].add(letter("a", AT, to="x@y.example, Billing <billing@acme.example>"))
    case = one(stage(tmp_path, source_of(empty, product="Taps"))["cases"])
    assert (case["source_group"], case["product"]) == ("billing@acme.example", "Taps")


def test_a_message_has_every_column(box: ImapServer, tmp_path: Path) -> None:
    rows = stage(tmp_path, source_of(box, link="https://mail.example/?q={id}"))["messages"]
    row = one(rows, source_record_id="d1@photo.example")
    assert row["source_case_id"] == "d1@photo.example"
    assert row["author_id"] == imap.hash_address("sam@photo.example")
    assert row["author_role"] == "customer"
    assert row["is_public"] is True
    assert row["channel"] == "email"
    assert row["created_at"] == datetime(2026, 11, 6, 8, tzinfo=UTC)
    assert row["body"] == "The screen is cracked – see the picture."
    assert row["attachments"] == ["屏幕, 1.jpg", "message.rfc822"]
    assert row["url"] == "https://mail.example/?q=d1%40photo.example"


def test_attachments_are_listed_and_not_kept(box: ImapServer, tmp_path: Path) -> None:
    told = said(box, tmp_path, "d1@photo.example")
    assert told["attachments"][0] == {"name": "屏幕, 1.jpg", "type": "image/jpeg", "size": 200}
    assert "AAECAw" not in json.dumps(told)
    assert "inner text" not in json.dumps(told)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (THREAD, "Hello,\n\nthe charger in my parcel does not fit the socket. What can I do?"),
        ("a1@acme.example",
         "Dear Mei, we send you another plug, which will arrive within two days."),
        ("c2@customer.example", "还是插不进去，尺寸不对。朱镕基路的店里也买不到。"),
        ("c3@customer.example", "Please refund me & close this."),
        ("z1@shop.example", "发票金额不对，多收了三十元，请尽快更正。"),
        ("f1@acme.example", "Do you deliver to Norway?"),
    ],
)  # fmt: skip
def test_only_what_was_said_is_the_body(
    box: ImapServer, tmp_path: Path, record: str, text: str
) -> None:
    assert said(box, tmp_path, record)["said"] == text


def test_what_came_is_kept_beside_what_was_said(box: ImapServer, tmp_path: Path) -> None:
    told = said(box, tmp_path, "c2@customer.example")
    assert "we send you another plug" in told["text"]


def test_names_and_subjects_are_decoded(box: ImapServer, tmp_path: Path) -> None:
    told = said(box, tmp_path, "z1@shop.example")
    assert (told["subject"], told["author"]["name"]) == ("发票金额不对", "王芳")


def test_a_subject_without_a_text_is_what_was_said(box: ImapServer, tmp_path: Path) -> None:
    rows = stage(tmp_path, source_of(box))["messages"]
    row = one(rows, body="My meter shows nothing")
    assert row["source_record_id"].startswith("hash-")


def test_a_form_on_our_site_speaks_for_the_customer(box: ImapServer, tmp_path: Path) -> None:
    row = one(stage(tmp_path, source_of(box))["messages"], source_record_id="f1@acme.example")
    assert (row["author_role"], row["channel"]) == ("customer", "web_form")
    assert row["author_id"] == imap.hash_address("jo@visitor.example")


def test_what_stays_among_colleagues_is_no_reply(box: ImapServer, tmp_path: Path) -> None:
    row = one(stage(tmp_path, source_of(box))["messages"], source_record_id="i1@acme.example")
    assert (row["author_role"], row["is_public"]) == ("agent", False)


def test_our_own_machine_is_a_bot(empty: ImapServer, tmp_path: Path) -> None:
    empty.folders["INBOX"].add(letter("a", AT))
    heads = {"References": "<a@customer.example>", "Auto_Submitted": "auto-replied"}
    empty.folders["Sent"].add(answer("r", AT + HOUR, **heads))
    rows = stage(tmp_path, source_of(empty))
    row = one(rows["messages"], source_record_id="r@customer.example")
    assert row["author_role"] == "bot"
    assert one(rows["cases"])["status"] == "open"


@pytest.mark.parametrize(
    ("record", "tag", "case"),
    [
        ("b1@mx.customer.example", "bounced_mail", THREAD),
        ("o1@customer.example", "auto_reply", THREAD),
        ("n1@news.example", "bulk_mail", None),
    ],
)
def test_what_is_no_customers_word_is_kept_with_its_reason(
    box: ImapServer, tmp_path: Path, record: str, tag: str, case: str | None
) -> None:
    rows = stage(tmp_path, source_of(box))
    row = one(rows["feedback"], source_record_id=record)
    assert (row["tags"], row["source_case_id"]) == ([tag], case)
    assert record not in {message["source_record_id"] for message in rows["messages"]}


def test_a_group_of_our_own_is_no_circular(empty: ImapServer, tmp_path: Path) -> None:
    heads = {"List_Id": "Support <support.acme.example>", "Precedence": "list"}
    empty.folders["INBOX"].add(letter("a", AT, **heads))
    assert said(empty, tmp_path, "a@customer.example")["reason"] is None


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        ({"X_Autoreply": "yes"}, "auto_reply"),
        ({"Precedence": "auto_reply"}, "auto_reply"),
        ({"Auto_Submitted": "auto-generated; x=y"}, "auto_reply"),
        ({"Auto_Submitted": "no"}, None),
        ({"Subject": "自动回复: 您的邮件"}, "auto_reply"),
        ({"X_Spam_Flag": "YES"}, "spam"),
        ({"Subject": "Undelivered parcel"}, None),
        ({"Subject": "Undelivered mail", "Return_Path": "<>"}, "bounce"),
        ({"From": "Mail Delivery <postmaster@mx.example>"}, "bounce"),
        ({"X_Failed_Recipients": "x@y.example"}, "bounce"),
        ({"Precedence": "junk"}, "bulk"),
        ({"List_Unsubscribe": "<mailto:u@news.example>"}, "bulk"),
        ({"Content_Type": "multipart/report; report-type=disposition-notification; boundary=b"},
         "auto_reply"),
    ],
)  # fmt: skip
def test_reasons_are_read_from_headers(
    empty: ImapServer, tmp_path: Path, heads: dict[str, str], reason: str | None
) -> None:
    empty.folders["INBOX"].add(letter("a", AT, **heads))
    assert said(empty, tmp_path, "a@customer.example")["reason"] == reason


def test_people_are_known_by_a_hash_of_their_address(box: ImapServer, tmp_path: Path) -> None:
    rows = stage(tmp_path, source_of(box))
    mei = imap.hash_address("mei.chen@customer.example")
    customers = [row for row in rows["customers"] if row["source_customer_id"] == mei]
    assert {(row["name"], row["email"]) for row in customers} == {
        ("Mei Chen", "mei.chen@customer.example")
    }
    agents = {row["source_agent_id"]: row["name"] for row in rows["agents"]}
    assert agents == {imap.hash_address("li.na@acme.example"): "Li Na"}


def test_the_facts_have_openings_replies_and_reasons(box: ImapServer, tmp_path: Path) -> None:
    source = source_of(box)
    stage(tmp_path, source)
    assert quarantined(tmp_path, source) == []
    run = make_run(tmp_path, source)
    clean.run(run)
    partitions = run.lake.facts_manifest()["partitions"]
    events = [
        e for p in partitions["case_events"].values() for e in run.lake.read_table(p).to_pylist()
    ]
    kinds = [event["event_type"] for event in sorted(events, key=lambda event: event["event_at"])]
    assert kinds.count("agent_reply") == 1
    assert kinds.count("internal_note") == 1
    feedback = [
        e for p in partitions["feedback"].values() for e in run.lake.read_table(p).to_pylist()
    ]
    reasons = {row["source_record_id"]: row["exclusion_reason"] for row in feedback}
    assert reasons["b1@mx.customer.example"] == "bounce"
    assert reasons["o1@customer.example"] == "auto_reply"
    assert reasons["n1@news.example"] == "bulk"
    assert reasons[THREAD] is None
    opening = one(feedback, source_record_id=THREAD)
    assert (opening["is_opening"], opening["title"]) == (True, "The charger does not fit")


def test_a_joined_thread_is_a_merged_case(empty: ImapServer, tmp_path: Path) -> None:
    inbox = empty.folders["INBOX"]
    inbox.add(letter("c1", AT))
    inbox.add(letter("c2", AT + 2 * HOUR, In_Reply_To="<a1@customer.example>", Subject="More"))
    source = source_of(empty)
    stage(tmp_path, source)
    clean.run(make_run(tmp_path, source))
    empty.folders["Sent"].add(answer("a1", AT + HOUR, In_Reply_To="<c1@customer.example>"))
    stage(tmp_path, source)
    run = make_run(tmp_path, source)
    clean.run(run)
    told = {row["source_case_id"]: row["exclusion_reason"] for row in facts(run, "cases")}
    assert told == {
        "c1@customer.example": None,
        "a1@customer.example": "merged",
    }


def test_every_field_is_used_or_named(box: ImapServer, tmp_path: Path) -> None:
    source = source_of(box)
    found, _ = pull_all(source, tmp_path)
    used = used_fields(find_kind("imap").mappings(source), "messages")
    assert {name for told in latest(found, "messages").values() for name in told} <= used


# Servers ------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_off_is_opened_again(box: ImapServer, tmp_path: Path) -> None:
    box.fail("BODY.PEEK\\[\\]", cut=500, times=2)
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12
    assert box.connections == 3


@pytest.mark.parametrize(
    "told", ["NO [UNAVAILABLE] busy", "NO [OVERQUOTA] Account exceeded bandwidth limits", "* BYE x"]
)
def test_a_busy_server_is_asked_later(box: ImapServer, tmp_path: Path, told: str) -> None:
    box.fail("UID SEARCH", told, times=2)
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12


@pytest.mark.parametrize("part", ["HEADER", r"PEEK\[\]"])
def test_a_message_that_the_server_cannot_give_hinders_no_other(
    empty: ImapServer, tmp_path: Path, part: str
) -> None:
    inbox = empty.folders["INBOX"]
    uids = [inbox.add(letter(f"m{n}", AT)) for n in range(5)]
    broken = rf"UID FETCH (?:1:5|3:5|3|3:4|1:3) .*{part}"
    empty.fail(broken, "NO [CANNOT] message is damaged", times=99)
    source = source_of(empty)
    rows = stage(tmp_path, source)["messages"]
    assert {row["source_record_id"][:2] for row in rows} == {"m0", "m1", "m3", "m4"}
    (row,) = quarantined(tmp_path, source)
    assert (row["reasons"], row["record_id"]) == (["broken_message"], f"INBOX/7/{uids[2]}")


def test_a_wait_that_the_server_names_is_kept(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(imap.time, "sleep", waits.append)
    box.fail("UID FETCH", "NO Request is throttled. Suggested Backoff Time: 92415 milliseconds")
    pull_all(source_of(box), tmp_path)
    assert waits == [92.415]


def test_a_wait_of_hours_is_an_error(box: ImapServer, tmp_path: Path) -> None:
    box.fail("UID FETCH", "NO Request is throttled. Suggested Backoff Time: 9000000 milliseconds")
    with pytest.raises(HearbackError, match=r"wait for 2\.5 hours; run it later"):
        pull_all(source_of(box), tmp_path)


def test_a_server_that_stays_away_is_named(box: ImapServer, tmp_path: Path) -> None:
    box.fail("UID FETCH", "* BYE x", times=99)
    with pytest.raises(HearbackError, match=r"'desk'.*breaks off.*connection 'desk'") as caught:
        pull_all(source_of(box), tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_credentials_name_the_connection(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": LOGIN, "password": "not-this"}))
    with pytest.raises(HearbackError, match=r"refused.*connection 'desk'") as caught:
        pull_all(source_of(box), tmp_path)
    assert "not-this" not in str(caught.value)
    assert box.connections == 1


def test_a_token_signs_in(box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", BY_TOKEN)
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12


class Tokens(VendorServer):
    """Gives a token for the refresh token "r-1" alone."""

    def allows(self, request: Request) -> bool:
        return True

    def respond(self, request: Request) -> Answer:
        form = parse_qs(request.body)
        if form.get("refresh_token") != ["r-1"] or form.get("grant_type") != ["refresh_token"]:
            return Answer({"error": "invalid_grant"}, 400)
        return Answer({"access_token": TOKEN, "expires_in": 3599})


@pytest.mark.parametrize(("refresh", "is_right"), [("r-1", True), ("r-2", False)])
def test_a_token_is_fetched_with_a_refresh_token(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refresh: str, is_right: bool
) -> None:
    with Tokens() as tokens:
        extra = {"token_url": f"{tokens.url}/token", "client_id": "c", "refresh_token": refresh}
        monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": LOGIN, "extra": extra}))
        if is_right:
            found, _ = pull_all(source_of(box), tmp_path)
            assert len(found["messages"]) == 12
            return
        with pytest.raises(HearbackError, match=r"no token \(status 400\).*connection 'desk'"):
            pull_all(source_of(box), tmp_path)


def test_a_refused_token_is_answered_empty(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"access_token": "old-token"}
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": LOGIN, "extra": extra}))
    with pytest.raises(HearbackError, match="refused"):
        pull_all(source_of(box), tmp_path)
    assert box.violations == []


def test_a_password_beyond_ascii_is_sent_whole(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": LOGIN, "password": "密码"}))
    monkeypatch.setattr("tests.pipelines.sources.imap.server.PASSWORD", "密码")
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12


def test_a_server_that_wants_to_know_its_client_is_told(box: ImapServer, tmp_path: Path) -> None:
    box.needs_id = True
    found, _ = pull_all(source_of(box), tmp_path)
    assert len(found["messages"]) == 12


def test_check_says_what_is_there(box: ImapServer, tmp_path: Path) -> None:
    assert imap.check(source_of(box), make_context(tmp_path)) == "12 messages in INBOX, Sent"


@pytest.mark.parametrize("url", ["https://mail.example", "mail.example", None])
def test_base_url_must_be_one_of_imap(tmp_path: Path, url: str | None) -> None:
    with pytest.raises(UsageError, match="imaps://"):
        pull_all(make_source("imap", url), tmp_path)


def test_the_owners_must_be_known(
    box: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DESK", json.dumps({"login": "desk", "password": "x"}))
    with pytest.raises(UsageError, match=r"options\.own"):
        pull_all(source_of(box, own=[]), tmp_path)


# TLS ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def tls_server(certificate: Path, *, is_late: bool = False) -> ImapServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ImapServer(context, is_late=is_late)
    server.folders["INBOX"].add(letter("a", AT))
    return server


@pytest.mark.parametrize("is_late", [False, True])
def test_tls_is_the_default(certificate: Path, tmp_path: Path, is_late: bool) -> None:
    with tls_server(certificate, is_late=is_late) as server:
        source = make_source("imap", server.url, options={"ca_file": str(certificate)})
        found, _ = pull_all(source, tmp_path)
    assert ids(found, "messages") == {"a@customer.example"}
    assert server.violations == []


def test_a_certificate_that_nobody_knows_is_refused(certificate: Path, tmp_path: Path) -> None:
    with (
        tls_server(certificate) as server,
        pytest.raises(HearbackError, match=r"not trusted.*ca_file.*connection 'desk'"),
    ):
        pull_all(make_source("imap", server.url), tmp_path)


def test_no_password_goes_to_a_server_without_tls(box: ImapServer, tmp_path: Path) -> None:
    with pytest.raises(HearbackError):
        pull_all(make_source("imap", box.url), tmp_path)  # imap:// wants STARTTLS
    assert "LOGIN" not in box.commands
