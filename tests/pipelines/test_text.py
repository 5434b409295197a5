from __future__ import annotations

import re
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.text import (
    _AUTO_REPLY,
    _AUTO_REPLY_BIT,
    _LINK_BIT,
    _LINKS,
    _NEEDS_CLEANING,
    _SPAM,
    _SPAM_BIT,
    _find_unclean,
    _reason_words,
    clean_line,
    clean_lines,
    clean_text,
    clean_texts,
    find_reasons,
    normalise_texts,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Hello <b>world</b><br>line&nbsp;2</p>", "Hello world\nline 2"),
        ("<div>a</div><div>b</div>", "a\n\nb"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n\n- two"),
        ("<style>p{}</style><script>x()</script>hi<!-- no -->", "hi"),
        ("I <3 it & AT&T &copy=1 <my order>", "I <3 it & AT&T &copy=1 <my order>"),
        ("Tom &amp; Ann &#39;s &#x4F60;", "Tom & Ann 's 你"),
        ("price < 5 and > 3", "price < 5 and > 3"),
        (
            "<div>Broken.</div><div class='gmail_quote'>On Monday<p>old</p></div>",
            "Broken.",
        ),
    ],
)
def test_markup_becomes_text(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u200bb\u00a0 \u3000c\r\nd", "ab c\nd"),
        ("  a  b \n\n\n\n c ", "a b\n\nc"),
        ("nul\x00 bell\x07 tab\tend", "nul bell tab end"),
        ("line\u2028break", "line\nbreak"),
        ("bidi\u202eevil\u202c", "bidievil"),
        ("cafe\u0301", "café"),
        ("👨\u200d👩\u200d👧 a\u200db", "👨\u200d👩\u200d👧 ab"),
        ("全角，标点：不变！", "全角，标点：不变！"),
    ],
)
def test_white_space_and_hidden_signs(text: str, expected: str) -> None:
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Broken!\n\nOn Mon, Jan 1, 2026 at 3 PM Joe <j@x.com> wrote:\n> old", "Broken!"),
        ("Broken!\n\nOn Mon, Jan 1, 2026 at 3 PM Joe\n<j@x.com> wrote:\n> old", "Broken!"),
        ("坏了\n在 2026年1月1日，张三 <a@b.com> 写道：\n旧的", "坏了"),
        ("坏了\n------------------ 原始邮件 ------------------\n旧的", "坏了"),
        ("It broke\n-----Original Message-----\nFrom: x", "It broke"),
        ("Hi\nFrom: A <a@b>\nSent: Monday\nTo: B\nold", "Hi"),
        ("你好\n发件人：甲\n发送时间：今天\n旧的", "你好"),
        ("ok it broke\nSent from my iPhone", "ok it broke"),
        ("退款没到\n发自我的iPhone", "退款没到"),
        ("Hi, x\n-- \nJohn\nCEO", "Hi, x"),
        ("> you asked\nyes, still broken\n> and\nno", "yes, still broken\nno"),
        ("> all of it quoted", "> all of it quoted"),
        ("##- Please type your reply above this line -##\nIt broke", "It broke"),
        ("She wrote: it broke", "She wrote: it broke"),
        ("客服写道我错了", "客服写道我错了"),
    ],
)
def test_quoted_mail_and_signatures_go(text: str, expected: str) -> None:
    assert clean_text(text) == expected


def test_titles_stay_on_one_line() -> None:
    assert clean_line("  Re:\n <b>broken</b>\tcharger ") == "Re: broken charger"


def test_arrays_turn_empty_texts_into_null() -> None:
    texts = pa.array(["ok", " ", None, "<br>", ""])
    assert clean_texts(texts).to_pylist() == ["ok", None, None, None, None]
    assert clean_lines(texts).to_pylist() == ["ok", None, None, None, None]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=120))
@example("\U0002f800")  # NFC makes another ideograph of it
@example("e\u0301 \U0002f800")
def test_the_scan_of_arrays_misses_nothing(text: str) -> None:
    assert clean_texts(pa.array([text]))[0].as_py() == (clean_text(text) or None)


@pytest.mark.parametrize("piece", ["<script", "<!--", "<div ", "On x\n", "> ", "&amp", "-- \n"])
def test_hostile_texts_take_linear_time(piece: str) -> None:
    start = time.process_time()
    clean_text(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 5


def test_normal_form_drops_case_space_and_punctuation() -> None:
    texts = pa.array(["Hello, World!", "hello world", "你好，世界。", "你好世界", None, ""])
    assert normalise_texts(texts).to_pylist() == [
        "helloworld", "helloworld", "你好世界", "你好世界", "", "",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(alphabet="aB ,，。é你！x1", max_size=12)), max_size=9))
def test_normal_form_of_an_array_is_that_of_its_texts(texts: list[str | None]) -> None:
    expected = ["".join(c.lower() for c in text or "" if c not in " ,，。！") for text in texts]
    whole = pa.array(["x", *texts], pa.string())
    assert normalise_texts(whole[1:]).to_pylist() == expected


@pytest.mark.parametrize(
    ("title", "body", "expected"),
    [
        (None, "test", "test"),
        (None, "This is a test, please ignore", "test"),
        (None, "测试一下", "test"),
        ("x", "asdfasdf", "test"),
        (None, "I test the product daily", None),
        (None, "loved the new test mode", None),
        (None, "测试版闪退很严重，请修复", None),
        (None, "代开各类发票，加微信", "spam"),
        (None, "Increase your website traffic with our SEO services", "spam"),
        (None, "商家刷单，请处理", None),
        (None, "发票一直没有开给我", None),
        (None, "http://a.b http://c.d http://e.f", "spam"),
        (None, "代开各类正规发票，税点低", "spam"),
        (None, "低息贷款，无抵押，当天放款，不看征信", "spam"),
        (None, "Boost your website to the first page, 5000 backlinks for $49", "spam"),
        (None, "I applied for a loan in your app and the rate went up overnight", None),
        (None, "QA test - do not answer", "test"),
        (None, "测试一下表单，麻烦删除", "test"),
        (None, "I tested the lamp and it does not work", None),
        ("Automatic reply: your order", "hello", "auto_reply"),
        ("自动回复：你好", None, "auto_reply"),
        ("Undeliverable: your order", "The mailbox is full", "auto_reply"),
        ("Undelivered Mail Returned to Sender", "The mailbox is full", "auto_reply"),
        ("Undelivered parcel", "Order 7 has not come", None),
        (None, "I am currently out of the office until Monday", "auto_reply"),
        (None, "I took it out of the box and it broke", None),
        (None, None, "empty"),
        (None, "...", "empty"),
        (None, "👍", None),
        (None, "5", None),
    ],
)
def test_what_is_no_feedback(title: str | None, body: str | None, expected: str | None) -> None:
    found = find_reasons(pa.array([title], pa.string()), pa.array([body], pa.string()))
    assert found.to_pylist() == [expected]


def _as_python(pattern: str) -> str:
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda match: chr(int(match[1], 16)), pattern)


def _matches(text: str, pattern: str) -> bool:
    return bool(pc.match_substring_regex(pa.array([text]), pattern)[0].as_py())


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.from_regex(_as_python(_NEEDS_CLEANING)),
        st.text(" \n>-_<&ab好“—…\xa0\u3000\u200b\ufeff\u0301\u1680\u205f"),
    )
)
def test_the_quick_look_misses_no_text_that_needs_cleaning(text: str) -> None:
    expected = _matches(text, _NEEDS_CLEANING)
    assert _find_unclean(pa.array([text])).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("pattern", "bit"),
    [(_SPAM, _SPAM_BIT), (_LINKS, _LINK_BIT), (_AUTO_REPLY, _AUTO_REPLY_BIT)],
)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_each_text_of_a_reason_has_one_of_its_words(
    pattern: str, bit: int, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(pattern))
    if _matches(text, pattern):
        assert int(_reason_words().find(pa.array([text]))[0]) & bit
