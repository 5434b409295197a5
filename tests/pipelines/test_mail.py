"""Mail: character sets that are declared wrongly, lines, quotes, names of files, odd headers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.mail import (
    Mail,
    Owners,
    decode_bytes,
    decode_text,
    describe_body,
    find_author,
    find_bounced,
    find_reason,
    list_attachments,
    read_addresses,
    strip_prefix,
    unfold_flowed,
)

AT = datetime(2026, 11, 15, 9, tzinfo=UTC)
OWN = Owners(frozenset({"@acme.example", "help@gmail.example"}))


def mail(head: str, body: str = "") -> Mail:
    return Mail.read((head.strip() + "\n\n" + body).encode("utf-8"), AT)


def said(text: str) -> str:
    found: str = describe_body(mail("Content-Type: text/plain; charset=utf-8", text))["said"]
    return found


@pytest.mark.parametrize("declared", ["gb2312", "us-ascii", "iso-8859-1", "utf-8", None, "x-odd"])
def test_chinese_is_read_whatever_it_is_called(declared: str | None) -> None:
    assert decode_bytes("退款还没有到账，请尽快处理。".encode("gb18030"), declared) == (
        "退款还没有到账，请尽快处理。"
    )


@pytest.mark.parametrize("declared", ["gb2312", "us-ascii", "iso-8859-1", "windows-1252", None])
def test_utf_8_is_read_whatever_it_is_called(declared: str | None) -> None:
    text = "Le café n’est pas arrivé – déjà trois jours"
    if declared == "gb2312":  # these bytes are no GB 18030
        text += " é"
    assert decode_bytes(text.encode(), declared) == text


@pytest.mark.parametrize(
    ("text", "declared"),
    [("Größe ist falsch", "iso-8859-1"), ("届きません", "iso-2022-jp"), ("그림", "euc-kr"),
     ("送貨", "big5"), ("Не пришло", "koi8-r"), ("plain", "utf-16")],
)  # fmt: skip
def test_what_is_declared_rightly_is_believed(text: str, declared: str) -> None:
    assert decode_bytes(text.encode(declared), declared) == text


def test_a_character_that_was_cut_costs_no_more_than_itself() -> None:
    assert decode_bytes("没有收到货物".encode()[:-1], "utf-8") == "没有收到货�"


def test_words_that_split_a_character_are_put_together() -> None:
    data = "退款没有到账".encode()
    halves = [base64.b64encode(part).decode() for part in (data[:7], data[7:])]
    assert decode_text(" ".join(f"=?utf-8?B?{half}?=" for half in halves)) == "退款没有到账"


def test_a_subject_in_raw_bytes_is_read() -> None:
    found = Mail.read("Subject: 发票金额不对\n\n".encode("gb18030"), AT)
    assert found.subject == "发票金额不对"


def test_names_with_commas_and_quotes_are_one_address() -> None:
    (found,) = read_addresses(['"Chen, Mei" <Mei@Shop.example>'])
    assert found == {"address": "mei@shop.example", "name": "Chen, Mei"}


def test_an_entry_without_an_address_is_none() -> None:
    assert read_addresses(["undisclosed-recipients:;"]) == []


@pytest.mark.parametrize(
    "subject",
    [
        "Re: tap",
        "RE：tap",
        "回复: Re: tap",
        "答复：转发：tap",
        "Fwd: [2]tap"[:5] + "tap",
        "AW: Re[2]: tap",
    ],
)
def test_prefixes_of_answers_are_left_out(subject: str) -> None:
    assert strip_prefix(subject) == "tap"


@pytest.mark.parametrize("subject", ["Refund: tap", "Research", "回复慢"])
def test_words_that_begin_alike_stay(subject: str) -> None:
    assert strip_prefix(subject) == subject


@pytest.mark.parametrize(
    "text",
    [
        "It leaks.\n\nOn Mon, Nov 2, 2026 at 9:00 AM Li Na <li@acme.example> wrote:\n> hello",
        "It leaks.\n\nOn Mon, Nov 2, 2026 at 9:00 AM Li Na\n<li@acme.example> wrote:\n\n> hello",
        "It leaks.\n\n-----Original Message-----\nFrom: Li Na\nSent: Monday\n\nhello",
        "It leaks.\n\nFrom: Li Na <li@acme.example>\nSent: Monday, November 2, 2026 9:00\n"
        "To: Ann\nSubject: Tap\n\nhello",
        "It leaks.\n\n________________________________\nFrom: Li Na\nhello",
        "It leaks.\n\n-- \nAnn Lee\nCustomer Ltd.",
        "It leaks.\n\nSent from my iPhone",
        "It leaks.\n\nSent from my Galaxy\n\n-------- Original message --------\nFrom: Li\nhello",
        "It leaks.\n\nGet Outlook for Android",
        "It leaks.\n\n发自我的iPhone",
        "It leaks.\n\n来自我的华为手机",
        "It leaks.\n\n发自我的小米手机\n\n在 Li Na <li@acme.example>，2026年11月2日 9:00写道：\n"
        "\n你好",
        "It leaks.\n\n在 2026年11月2日，上午9:00，Li Na <li@acme.example> 写道：\n\n> 你好",
        "It leaks.\n\n在 2026-11-02 09:00:00，\"Li Na\" <li@acme.example> 写道：\n你好",
        "It leaks.\n\n2026年11月2日 09:00，Li Na <li@acme.example> 写道：\n你好",
        "It leaks.\n\n------------------ 原始邮件 ------------------\n发件人: \"Li Na\";\n你好",
        "It leaks.\n\n------------------&nbsp;原始邮件&nbsp;------------------\n发件人: Li\n你好",
        "It leaks.\n\n---- 回复的原邮件 ----\n| 发件人 | Li Na |\n| 日期 | 2026年11月2日 |\n你好",
        "It leaks.\n\n---- Replied Message ----\n| From | Li Na |\n| Date | 11/2/2026 |\nhello",
        "It leaks.\n\n发件人: Li Na <li@acme.example>\n发送时间: 2026年11月2日 9:00\n收件人: Ann\n"
        "主题: 水龙头\n\n你好",
        "It leaks.\n\n发件人： Li Na\n日期： 2026-11-02\n收件人： Ann\n你好",
        "It leaks.\n\n-------- 转发的消息 --------\n主题：水龙头\n你好",
        "> hello\n\nIt leaks.",
    ],
)  # fmt: skip
def test_quoted_mail_and_signatures_are_left_out(text: str) -> None:
    assert said(text) == "It leaks."


def test_a_message_of_nothing_but_a_quote_keeps_it() -> None:
    assert "hello" in said("> hello")


def test_html_becomes_text_without_what_it_quotes() -> None:
    html = (
        "<html><head><style>p{}</style></head><body><p>It&nbsp;leaks.</p><ul><li>tap</li></ul>"
        '<div class="gmail_quote">On Monday Li wrote:<blockquote>hello</blockquote></div></body>'
    )
    found = describe_body(mail("Content-Type: text/html; charset=utf-8", html))
    assert (found["said"], found["text_type"]) == ("It leaks.\n\n- tap", "text/html")


def test_lines_that_were_broken_to_fit_are_put_together() -> None:
    text = "one \ntwo\n> quoted \n> on\n three \n-- \nAnn"
    assert unfold_flowed(text, drops_space=False) == ("one two\n> quoted \n> on\nthree \n-- \nAnn")
    assert unfold_flowed("中 \n文", drops_space=True) == "中文"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Content-Disposition: attachment; filename*=gb18030''%CD%BC.jpg", "图.jpg"),
        ("Content-Disposition: attachment; filename==?utf-8?B?5Zu+LmpwZw==?=", "图.jpg"),
        ("Content-Disposition: attachment; filename*0=pic; filename*1=ture.jpg", "picture.jpg"),
        ("X: y", "image.jpeg"),
    ],
)
def test_names_of_attachments_are_read(header: str, name: str) -> None:
    message = mail(f"Content-Type: image/jpeg\n{header}").message
    assert [one["name"] for one in list_attachments(message)] == [name]


def test_a_picture_within_the_text_is_an_attachment_and_no_text() -> None:
    body = (
        "--b\nContent-Type: text/plain\n\nIt leaks.\n--b\nContent-Type: text/plain; name=log.txt\n"
        "\nline of a log\n--b\nContent-Type: image/png\nContent-ID: <x>\n\nabc\n--b--\n"
    )
    found = describe_body(mail("Content-Type: multipart/related; boundary=b", body))
    assert found["said"] == "It leaks."
    assert found["attachment_names"] == ["log.txt", "image.png"]


@pytest.mark.parametrize(
    ("head", "sent_at"),
    [
        ("Date: Tue, 10 Nov 2026 09:00:00 +0800", datetime(2026, 11, 10, 1, tzinfo=UTC)),
        ("Date: Tue, 10 Nov 2026 09:00:00", datetime(2026, 11, 10, 9, tzinfo=UTC)),
        ("Date: nonsense", AT),
        ("Date: Tue, 10 Nov 2043 09:00:00 +0000", AT),
        ("Date: Thu, 01 Jan 1970 00:00:00 +0000", AT),
        ("X: y", AT),
    ],
)
def test_a_date_that_cannot_be_is_that_of_arrival(head: str, sent_at: datetime) -> None:
    assert mail(head).sent_at == sent_at


def test_references_are_bounded_and_keep_the_first() -> None:
    many = " ".join(f"<m{n}@x>" for n in range(500))
    found = mail(f"References: {many}\nIn-Reply-To: <m499@x>").references
    assert (found[0], found[-1], len(found)) == ("m0@x", "m499@x", 51)


@pytest.mark.parametrize("head", ["Message-ID: <>", "Message-ID: nonsense", "X: y"])
def test_without_an_id_the_headers_are_one(head: str) -> None:
    assert mail(f"{head}\nSubject: tap").id == mail("Subject: tap").id


@pytest.mark.parametrize(
    ("head", "is_sent", "told"),
    [
        ("From: a@shop.example\nTo: x@acme.example", False, ("customer", "a@shop.example", True)),
        ("From: x@acme.example\nTo: a@shop.example", False, ("agent", "a@shop.example", True)),
        ("From: x@acme.example\nTo: y@acme.example", False, ("agent", None, False)),
        ("From: HELP@gmail.example\nTo: a@shop.example", False, ("agent", "a@shop.example", True)),
        ("From: b@gmail.example\nTo: x@acme.example", False, ("customer", "b@gmail.example", True)),
        ("From: alias@other.example\nTo: a@shop.example", True, ("agent", "a@shop.example", True)),
        ("From: x@acme.example\nReply-To: a@shop.example\nTo: y@acme.example", False,
         ("customer", "a@shop.example", True)),
        ("From: x@acme.example\nReply-To: a@shop.example\nTo: y@acme.example\nIn-Reply-To: <m@x>",
         False, ("agent", None, False)),
        ("To: x@acme.example", False, ("customer", None, True)),
    ],
)  # fmt: skip
def test_who_speaks(head: str, is_sent: bool, told: tuple[str, str | None, bool]) -> None:
    found = find_author(mail(head), OWN, None, is_sent=is_sent)
    assert (found.role, found.customer, found.is_public) == told


def test_a_name_in_raw_bytes_is_read() -> None:
    found = Mail.read("From: 王芳 <wang@shop.example>\n\n".encode("gb18030"), AT)
    assert found.addresses("From") == [{"address": "wang@shop.example", "name": "王芳"}]


@pytest.mark.parametrize("text", ["=?utf-8?B?a?=", "=?utf-8?Q?=ZZ?=", "=?x-odd?B?5Zu+?=", "=?=?="])
def test_an_encoded_word_that_is_broken_costs_no_message(text: str) -> None:
    assert isinstance(mail(f"Subject: {text}\nFrom: {text} <a@b.example>").subject, str)


PIECES = st.sampled_from(
    [b"From: a@b.c\r\n", b"Subject: =?utf-8?B?5Zu+?= =?gbk?Q?=B2?=\r\n", b"Date: x\r\n", b"\r\n",
     b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n", b"--b--\r\n", b"\xc4\xe3\x00",
     b"Content-Type: text/plain; charset*=utf-16''x; format=flowed\r\n", b"<p>x</p> \r\n",
     b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: message/rfc822\r\n",
     b"Content-Disposition: attachment; filename*=x'y'%ff%\r\n", b"References: <a@b> <<c> <\r\n",
     b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=14))
def test_any_bytes_are_read_without_a_fault(pieces: list[bytes]) -> None:
    found = Mail.read(b"".join(pieces), AT)
    reason = (find_reason(found, OWN) or (None,))[0]
    find_author(found, OWN, reason, is_sent=False)
    find_bounced(found.message)
    told = describe_body(found) | {"id": found.id, "at": found.sent_at, "refs": found.references}
    json.dumps(told, ensure_ascii=False, default=str).encode("utf-8")
