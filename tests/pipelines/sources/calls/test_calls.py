"""Calls: every form of file, who spoke, whose case it is, files that change or are touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import clean
from pipelines.errors import HearbackError, UsageError
from pipelines.mail import hash_address
from pipelines.mapping import used_fields
from pipelines.settings import Source
from pipelines.sources import calls, find_kind
from pipelines.sources.transcripts import Roles, Turn, read_captions, read_labelled, settle_captions
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

PAYLOADS = Path(__file__).parent / "payloads"
TXT, SRT = "calls/2026-11-02_0930_case-4711.txt", "calls/zh_20261104_101500_工单-A17.srt"
ROLES = Roles([], [], "agent")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(PAYLOADS, tmp_path / "calls")
    return tmp_path


def source_of(**options: Any) -> Source:
    given = {"path": "calls/**", "time_zone": "Asia/Shanghai", **options}
    return make_source("calls", connection=None, options=given)


def write(folder: Path, name: str, text: str, **options: Any) -> dict[str, Any]:
    """The one call of a file."""
    path = folder / "calls" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    found, _ = pull_all(source_of(path=f"calls/{name}", **options), folder)
    (payload,) = latest(found, "calls").values()
    return dict(payload)


# Files --------------------------------------------------------------------------------------------


def test_every_form_of_file_gives_its_calls_once(folder: Path) -> None:
    found, _ = pull_all(source_of(), folder)
    told = {key: len(payloads) for key, payloads in found["calls"].items() if "#" not in key}
    assert told == dict.fromkeys([TXT, "v-1", SRT, "n-1", "k-1", "j-1", "j-2", "z-1", "z-2"], 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (TXT, "The charger I got does not fit.\nIt is for another model, I think.\n"
              "Thank you. One thing: please leave it at the door."),
        ("v-1", "My screen is cracked & dark.\nIt came like that."),
        (SRT, "我的退款一直没有到账，\n已经等了两个星期。"),
        ("n-1", "Mrs. Stone says the meter shows nothing since Monday.\n"
                "Problem: display. She wants a call back."),
        ("k-1", "My invoice is wrong.\nYou charged me twice."),
        ("j-1", "Asks whether the new charger was sent."),
        ("j-2", "Do you sell plugs?"),
        ("z-1", "发票抬头写错了"),
        ("z-2", "你们几点下班？"),
    ],
)  # fmt: skip
def test_what_the_customer_said(folder: Path, call: str, words: str) -> None:
    found, _ = pull_all(source_of(), folder)
    assert latest(found, "calls")[call]["said"] == words


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (SRT, "您好，这里是客服中心。\n我马上为您加急处理。"),
        ("v-1", "Acme support, hello.\nWe take it back."),
        ("z-1", "您好\n马上改"),
        ("n-1", None),
    ],
)
def test_what_the_agent_said(folder: Path, call: str, words: str | None) -> None:
    found, _ = pull_all(source_of(), folder)
    assert latest(found, "calls")[call]["answers"] == words


@pytest.mark.parametrize(
    ("call", "about"),
    [
        (TXT, {"case": "4711", "started_at": "2026-11-02T01:30:00+00:00",
               "replied_at": "2026-11-02T01:30:20+00:00"}),
        ("v-1", {"customer": "c-88", "minutes": 3.333, "agent": "Li Na",
                 "started_at": "2026-11-03T06:15:00+00:00",
                 "replied_at": "2026-11-03T06:16:00+00:00"}),
        (SRT, {"case": "A17", "started_at": "2026-11-04T02:15:00+00:00", "minutes": 0.15}),
        ("n-1", {"case": "4712", "agent": "Wei", "product": "Meter",
                 "subject": "Call",
                 "started_at": "2026-11-05T08:00:00+00:00"}),
        ("k-1", {"language": "en", "started_at": None, "minutes": 1.008}),
        ("j-1", {"case": "4711", "started_at": "2026-11-06T01:00:00+00:00", "minutes": 1.5,
                 "customer": hash_address("+8613800138000")}),
        ("z-1", {"started_at": "2026-11-07T02:00:00+00:00"}),
    ],
)  # fmt: skip
def test_what_is_known_of_a_call(folder: Path, call: str, about: dict[str, Any]) -> None:
    found, _ = pull_all(source_of(), folder)
    told = latest(found, "calls")[call]
    assert {name: told[name] for name in about} == about


def test_a_line_that_is_no_json_is_kept(folder: Path) -> None:
    with open(folder / "calls/many.jsonl", "a") as file:
        file.write("not json\n")
    source = source_of()
    stage(folder, source)
    (row,) = quarantined(folder, source)
    assert row["reasons"] == ["broken_json"]
    assert "not json" in str(row)


def test_a_file_that_is_too_big_is_set_aside(folder: Path) -> None:
    source = source_of(path="calls/note.md", max_bytes=20)
    stage(folder, source)
    assert [row["reasons"] for row in quarantined(folder, source)] == [["oversized_text"]]


def test_an_empty_file_is_no_call(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls/empty.txt").write_text(" \n")
    found, _ = pull_all(source_of(), tmp_path)
    assert dict(found["calls"]) == {}


def test_files_of_other_kinds_are_nobodys_business(folder: Path) -> None:
    (folder / "calls/voice.wav").write_bytes(b"RIFF")
    found, _ = pull_all(source_of(), folder)
    assert not any("wav" in key for key in ids(found, "calls"))


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match=r"no file of calls matches calls/\*\*"):
        pull_all(source_of(), tmp_path)


def test_a_table_without_words_names_its_columns(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match=r"options\.fields.*columns are: id, said"):
        write(tmp_path, "a.csv", "id,said\n1,hello\n")


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    told = write(tmp_path, "a.csv", "Ref,said\n77,It leaks\n", fields={"text": "said", "id": "Ref"})
    assert (told["id"], told["said"]) == ("77", "It leaks")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_character_sets_are_found_out(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "calls").mkdir()
    text = "客服：您好，请问有什么可以帮您？\r\n客户：洗衣机漏水了。\r\n"
    (tmp_path / "calls/a.txt").write_bytes(text.encode(encoding))
    found, _ = pull_all(source_of(), tmp_path)
    assert latest(found, "calls")["calls/a.txt"]["said"] == "洗衣机漏水了。"


def test_a_list_of_calls_in_one_json_file(tmp_path: Path) -> None:
    text = json.dumps(
        [{"text": "It leaks"}, {"id": "b", "turns": [{"role": "user", "text": "Hi"}]}]
    )
    path = tmp_path / "calls/a.json"
    path.parent.mkdir()
    path.write_text(text)
    found, _ = pull_all(source_of(), tmp_path)
    assert {told["said"] for told in latest(found, "calls").values()} == {"It leaks", "Hi"}


def test_half_a_character_is_stored_as_a_question_mark(tmp_path: Path) -> None:
    told = write(tmp_path, "a.json", '{"text": "It \\ud83d leaks \\ud83d\\ude00"}')
    assert told["said"] == "It ? leaks 😀"


def test_a_long_call_is_cut_where_it_can_be_seen(folder: Path) -> None:
    lines = "\n".join(f"Customer: sentence {n} of a long story\nAgent: yes" for n in range(2000))
    (folder / "calls/long 20261101.txt").write_text(lines)
    source = source_of(path="calls/long*")
    rows = stage(folder, source)["messages"]
    row = one(rows, author_role="customer")
    assert row["body"].endswith(" […]")
    assert quarantined(folder, source) == []


# Names and times ----------------------------------------------------------------------------------


def test_a_pattern_reads_names_of_files(tmp_path: Path) -> None:
    told = write(
        tmp_path, "ACME_c9_4711_02.11.2026.txt", "It leaks",
        name_pattern=r"_(?P<customer>c\d+)_(?P<case>\d+)_(?P<time>[\d.]+)",
    )  # fmt: skip
    assert (told["customer"], told["case"]) == ("c9", "4711")
    assert told["started_at"] == "2026-11-01T16:00:00+00:00"


@pytest.mark.parametrize("pattern", ["(?P<color>x)", "x", "(?P<case>"])
def test_a_pattern_must_name_what_is_known(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="name_pattern"):
        pull_all(source_of(name_pattern=pattern), tmp_path)


@pytest.mark.parametrize(
    ("name", "started_at"),
    [
        ("rec-20261102T093005.txt", "2026-11-02T01:30:05+00:00"),
        ("2026年11月02日.txt", "2026-11-01T16:00:00+00:00"),
        ("call 2026.11.02 0930.txt", "2026-11-02T01:30:00+00:00"),
        ("13800138000.txt", None),
        ("99202611020.txt", None),
    ],
)
def test_times_in_names(tmp_path: Path, name: str, started_at: str | None) -> None:
    assert write(tmp_path, name, "It leaks")["started_at"] == started_at


@pytest.mark.parametrize(
    ("header", "started_at"),
    [
        ("Date: 2026-11-02 09:30", "2026-11-02T01:30:00+00:00"),
        ("Time: 2026-11-02T09:30:00Z", "2026-11-02T09:30:00+00:00"),
        ("通话时间：2026年11月2日 09:30", "2026-11-02T01:30:00+00:00"),
        ("Date: someday", "someday"),
    ],
)
def test_times_in_headers(tmp_path: Path, header: str, started_at: str) -> None:
    assert write(tmp_path, "a.txt", f"{header}\n\nIt leaks")["started_at"] == started_at


def test_a_time_that_cannot_be_read_is_quarantined(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "Date: someday\n\nIt leaks")
    source = source_of()
    stage(tmp_path, source)
    (row,) = quarantined(tmp_path, source)
    assert "impossible_date:created_at" in row["reasons"]


def test_the_time_of_the_file_is_taken_if_asked(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "It leaks")
    os.utime(tmp_path / "calls/a.txt", (1_790_000_000, 1_790_000_000))
    found, _ = pull_all(source_of(use_file_time=True), tmp_path / ".")
    assert latest(found, "calls")["calls/a.txt"]["started_at"] == "2026-09-21T14:13:20+00:00"


@pytest.mark.parametrize(
    ("told", "minutes"),
    [("12:30", 12.5), ("1:02:30", 62.5), ("90", 1.5), ("12分30秒", 12.5), ("2 min", 2.0),
     ("1h 5m", 65.0), ("long", None)],
)  # fmt: skip
def test_durations(tmp_path: Path, told: str, minutes: float | None) -> None:
    assert write(tmp_path, "a.txt", f"Duration: {told}\n\nIt leaks")["minutes"] == minutes


def test_words_with_a_colon_are_no_header(tmp_path: Path) -> None:
    assert write(tmp_path, "a.txt", "Problem: it leaks\nCase: 9")["said"] == (
        "Problem: it leaks\nCase: 9"
    )


# Who spoke ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Agent: hello\nCustomer: it leaks",
        "AGENT (Li Na): hello\nCALLER: it leaks",
        "**Agent:** hello\n**Customer:** it leaks",
        "[00:00:01] Operator: hello\n[00:00:05] Client: it leaks",
        "00:01 Rep: hello\n00:05 Caller: it leaks",
        "Agent 1 (00:00:01): hello\nCustomer (00:00:05): it leaks",
        "客服：hello\n客户：it leaks",
        "坐席（1024）: hello\n顾客: it leaks",
        "【客服】：hello\n【用户】：it leaks",
        "客服 00:00:01\nhello\n客户 00:00:05\nit leaks",
        "Agent: hello\nMr. Brown: it leaks\nAgent: \nMr. Brown: \nMr. Brown:\nMr. Brown:",
    ],
)
def test_labels_of_speakers(text: str) -> None:
    turns = read_labelled(text, ROLES)
    roles = ROLES.settle(turns)
    assert [(roles[turn.speaker], turn.text) for turn in turns] == [
        ("agent", "hello"), ("customer", "it leaks"),
    ]  # fmt: skip


def test_a_note_has_no_speakers() -> None:
    assert read_labelled("Problem: it leaks\nWish: a refund\nUrgent: yes", ROLES) == []


def test_names_in_the_configuration_are_roles(tmp_path: Path) -> None:
    told = write(tmp_path, "a.txt", "Bo: it leaks\nLi: sorry", agents=["Li"], customers=["Bo"])
    assert (told["said"], told["answers"]) == ("it leaks", "sorry")


@pytest.mark.parametrize(("first", "words"), [("agent", "it leaks"), ("customer", "hello")])
def test_the_order_tells_where_no_label_does(tmp_path: Path, first: str, words: str) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Speaker 1>hello\n\n" + (
        "00:03.000 --> 00:04.000\n<v Speaker 2>it leaks\n\n00:05.000 --> 00:06.000\n<v Speaker 1>\n"
    )
    told = write(tmp_path, "a.vtt", text, first_speaker=first)
    turns = [turn for turn in told["turns"] if turn["role"] == "customer"]
    assert (told["said"], len(turns)) == (words, 1)


def test_what_a_machine_says_is_nobodys_word(tmp_path: Path) -> None:
    text = "IVR: press one\nAgent: hello\nCustomer: it leaks"
    told = write(tmp_path, "a.txt", text)
    assert (told["said"], told["answers"]) == ("it leaks", "hello")


def test_a_cue_without_a_speaker_goes_on_with_the_last_one() -> None:
    text = (
        "1\r\n00:00:01,000 --> 00:00:02,000\r\nAgent: hello\r\n\r\n2\r\n00:00:02,000 --> "
        "00:00:03,000\r\n{\\an8}<i>how can I help</i>\r\n\r\n3\r\n00:00:04,000 --> 00:00:05,000\r\n"
        "- Customer: note this: it leaks\r\n"
    )
    assert settle_captions(read_captions(text), ROLES) == [
        Turn("Agent", "hello\nhow can I help", 1.0),
        Turn("Customer", "note this: it leaks", 4.0),
    ]


def test_captions_skip_what_is_not_said() -> None:
    text = (
        "WEBVTT\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:x\n\nNOTE not said\n\n"
        "intro\n01:00:00.000 --> 01:00:01.000 line:0\n<c.red>it</c> <00:00:01.500>leaks\n"
    )
    assert read_captions(text) == [Turn(None, "it leaks", 3600.0)]


# Versions -----------------------------------------------------------------------------------------


def test_a_touched_file_changes_nothing(folder: Path) -> None:
    _, position = pull_all(source_of(), folder)
    for path in (folder / "calls").iterdir():
        os.utime(path, (1_790_000_000, 1_790_000_000))
    found, _ = pull_all(source_of(), folder, position)
    assert dict(found.get("calls", {})) == {}


def test_a_changed_file_is_a_new_version(folder: Path) -> None:
    _, position = pull_all(source_of(), folder)
    path = folder / TXT
    path.write_text(path.read_text("utf-8") + "\nCustomer: And the cable, too.", "utf-8")
    found, _ = pull_all(source_of(), folder, position)
    assert ids(found, "calls") == {TXT}
    assert latest(found, "calls")[TXT]["said"].endswith("And the cable, too.")


def test_a_pull_stopped_after_each_batch_has_all_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BATCH_ROWS", 2)
    whole, _ = pull_all(source_of(), folder, now=datetime(2026, 11, 20, tzinfo=UTC))
    shutil.rmtree(folder / "state")
    found = pull_stopping(source_of(), folder)
    assert ids(found, "calls") == ids(whole, "calls")
    told = latest(found, "calls")
    assert {key: one["said"] for key, one in told.items() if "said" in one} == {
        key: one["said"] for key, one in latest(whole, "calls").items() if "said" in one
    }


def test_what_was_not_committed_is_read_again(folder: Path) -> None:
    first, _ = pull_all(source_of(), folder)
    again, _ = pull_all(source_of(), folder)
    assert ids(again, "calls") == ids(first, "calls")


# What becomes of it -------------------------------------------------------------------------------


def test_a_call_makes_a_case_with_both_sides(folder: Path) -> None:
    rows = stage(folder, source_of(path="calls/*.vtt", product="Screens"))
    case = one(rows["cases"])
    assert case["source_case_id"] == "v-1"
    assert case["channel"] == "phone"
    assert case["status"] == "closed"
    assert case["source_customer_id"] == "c-88"
    assert case["assignee_id"] == "Li Na"
    assert case["product"] == "Screens"
    assert case["opened_at"] == datetime(2026, 11, 3, 6, 15, tzinfo=UTC)
    customer = one(rows["messages"], author_role="customer")
    assert customer["source_record_id"] == "v-1"
    assert customer["channel"] == "phone"
    assert customer["body"] == "My screen is cracked & dark.\nIt came like that."
    assert customer["created_at"] == datetime(2026, 11, 3, 6, 15, tzinfo=UTC)
    agent = one(rows["messages"], author_role="agent")
    assert agent["source_record_id"] == "v-1:agent"
    assert agent["created_at"] == datetime(2026, 11, 3, 6, 16, tzinfo=UTC)
    assert agent["is_public"] is True
    metric = one(rows["vendor_metrics"])
    assert (metric["metric"], round(metric["value"], 2)) == ("handling", 3.33)


def test_calls_about_one_case_are_one_case(folder: Path) -> None:
    source = source_of()
    stage(folder, source)
    run = make_run(folder, source)
    clean.run(run)
    entries = run.lake.facts_manifest()["partitions"]
    cases = [row for e in entries["cases"].values() for row in run.lake.read_table(e).to_pylist()]
    case = one(cases, source_case_id="4711")
    assert case["opened_at"] == datetime(2026, 11, 2, 1, 30, tzinfo=UTC)
    assert case["updated_at"] == datetime(2026, 11, 6, 1, tzinfo=UTC)
    feedback = [
        row for e in entries["feedback"].values() for row in run.lake.read_table(e).to_pylist()
    ]
    assert len(feedback) == 9
    assert {row["channel"] for row in feedback} == {"phone"}
    assert one(feedback, source_record_id=TXT)["is_opening"] is True
    undated = one(feedback, source_record_id="k-1")
    assert (undated["created_at"], undated["case_id"]) == (None, None)


def test_a_call_may_belong_to_a_case_of_another_source(folder: Path) -> None:
    rows = stage(folder, source_of(case_source="zendesk", customer_source="crm"))
    row = one(rows["feedback"], source_record_id=TXT)
    assert row["case_source"] == "zendesk"
    assert row["source_case_id"] == "4711"
    assert row["customer_source"] == "crm"
    assert row["channel"] == "phone"
    assert row["body"].startswith("The charger I got")
    assert "messages" not in rows
    assert "cases" not in rows


@pytest.mark.parametrize("case_source", [None, "zendesk"])
def test_every_field_is_used_or_named(folder: Path, case_source: str | None) -> None:
    source = source_of(case_source=case_source)
    found, _ = pull_all(source, folder)
    used = used_fields(find_kind("calls").mappings(source), "calls")
    told = [payload for payload in latest(found, "calls").values() if isinstance(payload, dict)]
    assert {name for payload in told for name in payload} <= used


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"colour": "x"}}, "'colour' is none of"),
        ({"case_status": "done"}, "'done' is none of"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pull_all(source_of(**options), tmp_path)


def test_check_says_who_speaks(folder: Path) -> None:
    for path in (folder / "calls").iterdir():
        os.utime(path, (1, 1))
    os.utime(folder / TXT, (2, 2))
    assert calls.check(source_of(), make_context(folder)) == (
        "7 files; 2026-11-02_0930_case-4711.txt has agent, customer"
    )


# Anything -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt", ".md", ".vtt", ".srt", ".json", ".jsonl", ".csv"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_text_is_read_without_a_fault(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pieces = st.sampled_from(
        ["Agent: ", "客户：", "\n", "\n\n", "00:00:01.000 --> 00:00:02.000\n", "<v Bo>", "[00:01] ",
         '{"text": "x"', "}", "]", '[{"speaker": 1, "text": [1, {}]}', "text,speaker,id\n", '"',
         "Date: 2026-99-99\n", "---\n", "Duration: 9:99\n", "NOTE ", "id,", "\x00", "# ", "Case: 1"]
    )  # fmt: skip
    text = "".join(data.draw(st.lists(st.one_of(pieces, st.text(max_size=8)), max_size=14)))
    folder = tmp_path_factory.mktemp("any")
    path = folder / f"a{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    options = calls.Options(path="*")
    with contextlib.suppress(HearbackError):  # a table without a column of what was said
        for record in calls.read_file(path, path.name, options, make_context(folder)):
            json.dumps(record.payload, ensure_ascii=False).encode()


@pytest.mark.parametrize("piece", ["a ", " ", "<v ", "00:00:01 ", "Agent", "{\\", "- ", "x:", "\n"])
@pytest.mark.parametrize("suffix", [".txt", ".vtt"])
def test_hostile_texts_take_linear_time(tmp_path: Path, piece: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    text = "00:00:01.000 --> 00:00:02.000\n" + piece * (200_000 // len(piece))
    path.write_text(text)
    start = time.process_time()
    list(calls.read_file(path, path.name, calls.Options(path="*"), make_context(tmp_path)))
    assert time.process_time() - start < 5
