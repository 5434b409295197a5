from __future__ import annotations

import re
from datetime import date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.marks import mark_personal
from pipelines.redaction import (
    CANDIDATE,
    KINDS,
    id_card_holds,
    luhn_holds,
    redact_text,
    redact_texts,
)

REDACTED = [
    ("mail john.doe+x@mail.example.co.uk now.", "mail <email> now."),
    ("请发到abc@qq.com谢谢", "请发到<email>谢谢"),
    ("JOHN＠EXAMPLE．COM", "<email>"),
    ("john (at) example (dot) com", "<email>"),
    ("call 13800138000 please", "call <phone> please"),
    ("我的手机是138 0013 8000，谢谢", "我的手机是<phone>，谢谢"),
    ("手机１３８００１３８０００", "手机<phone>"),
    ("+86 138-0013-8000", "<phone>"),
    ("010-62345678", "<phone>"),
    ("(0755) 8234 5678", "<phone>"),
    ("（0755）82345678", "<phone>"),
    ("0755-82345678-123", "<phone>"),
    ("02162345678", "<phone>"),
    ("400-820-8820", "<phone>"),
    ("+1 (415) 555-0132", "<phone>"),
    ("(415) 555-0132", "<phone>"),
    ("415-555-0132", "<phone>"),
    ("+44 20 7946 0958", "<phone>"),
    ("020 7946 0958", "<phone>"),
    ("07911 123456", "<phone>"),
    ("06 12 34 56 78", "<phone>"),
    ("0044 20 7946 0958", "<phone>"),
    ("My phone number is 5551234567", "My phone number is <phone>"),
    ("联系电话：62345678", "联系电话：<phone>"),
    ("whatsapp +971 50 123 4567", "whatsapp <phone>"),
    ("id 11010519491231002X ok", "id <id_card> ok"),
    ("110105 19491231 002X", "<id_card>"),
    ("身份证号：110105194912310021", "身份证号：<id_card>"),
    ("card 4111 1111 1111 1111", "card <bank_card>"),
    ("卡号6222020000000000000", "卡号<bank_card>"),
    ("378282246310005", "<bank_card>"),
    ("from 192.168.1.12 ok", "from <ip_address> ok"),
    ("IP是10.0.0.1。", "IP是<ip_address>。"),
    ("2001:db8::ff00:42:8329", "<ip_address>"),
    ("http://192.168.1.1/admin", "http://<ip_address>/admin"),
    ("a@b.com, 13800138000 and 10.0.0.1", "<email>, <phone> and <ip_address>"),
]

KEPT = [
    "on 2024-11-20 at 12:30:45",
    "20241120123045",
    "2024/11/20 10:00",
    "20.11.2024 10:30",
    "11-20-2024",
    "2024年11月20日12时",
    "2024-11-20 2024-11-21 12",
    "订单号13812345678",
    "order #1234567890123456",
    "Order No. 2024112012345678",
    "order is 4111111111111111",
    "订单编号：202411200001234567",
    "Amazon 112-3456789-1234567",
    "ORD-20241120-0001",
    "运单号SF13812345678",
    "tracking 1Z999AA10123456784",
    "case 00012345",
    "flight CA1234 MU5678",
    "A320-200 737-800",
    "price 1,299.00 USD 12345678",
    "$1234567.89",
    "version 1.2.3.4",
    "v10.2.15.1",
    "版本 8.0.1.2",
    "Chrome 120.0.6099.109",
    "iPhone 15 128 256 512",
    "+1 great",
    "GMT+8 2024-11-20",
    "10:30-11:45",
    "call 5 times since 2024-01-02",
    "https://shop.com/item/13812345678",
    "std::string a::b",
    "aa:bb:cc",
    "ISBN 978-7-111-12345-6",
    "50000-60000-70000",
    "I <3 it @ home",
]


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_personal_data_is_replaced_by_its_tag(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_the_scan_of_arrays_finds_what_the_rules_find(text: str, expected: str) -> None:
    assert redact_texts(pa.array([None, text, "plain"])).to_pylist() == [None, expected, "plain"]


@pytest.mark.parametrize("text", KEPT)
def test_other_numbers_stay(text: str) -> None:
    assert redact_text(text) == text


def test_only_the_chosen_kinds_are_redacted() -> None:
    assert redact_text("a@b.com 13800138000", ("phone",)) == "a@b.com <phone>"


def test_nothing_is_redacted_where_no_kind_is_chosen() -> None:
    texts = pa.array(["a@b.com"])
    assert redact_texts(texts, ()).to_pylist() == ["a@b.com"]


def test_luhn_digit_of_the_standard_example() -> None:
    assert luhn_holds("79927398713")
    assert not luhn_holds("79927398710")


def test_id_card_digit_of_the_standard_example() -> None:
    assert id_card_holds("11010519491231002X")
    assert not id_card_holds("110105194912310021")


WORDS = st.sampled_from(["please help", "谢谢", "the app broke", "我要退款", "", "！", "?", "\n"])


@settings(deadline=None)
@given(WORDS, st.sampled_from("3456789"), st.integers(0, 10**9 - 1), st.sampled_from("- ~"), WORDS)
def test_every_chinese_mobile_goes(
    before: str, second: str, rest: int, sep: str, after: str
) -> None:
    digits = f"1{second}{rest:09d}"
    sep = sep.replace("~", "")
    number = f"{digits[:3]}{sep}{digits[3:7]}{sep}{digits[7:]}"
    redacted = redact_text(f"{before} {number} {after}")
    assert redacted.strip().replace("<phone>", "").strip() == f"{before}  {after}".strip()


@settings(deadline=None)
@given(
    st.from_regex(r"\A[a-z][a-z0-9._]{0,12}[a-z0-9]@[a-z0-9]{1,10}\.(com|cn|org|co\.uk)\Z"), WORDS
)
def test_every_address_goes(address: str, words: str) -> None:
    assert redact_text(f"{words} {address} {words}") == f"{words} <email> {words}"


@settings(deadline=None)
@given(st.dates(date(1990, 1, 1), date(2050, 1, 1)), st.times(), WORDS)
def test_no_date_or_time_goes(day: date, clock: time, words: str) -> None:
    instant = datetime.combine(day, clock)
    for shape in (
        "%Y-%m-%d %H:%M:%S",
        "%Y/%m/%d",
        "%d.%m.%Y %H:%M",
        "%Y年%m月%d日 %H:%M",
        "%Y%m%d",
    ):
        text = f"{words} {instant.strftime(shape)} {words}"
        assert redact_text(text) == text


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 255), st.integers(0, 255), st.integers(0, 9999))
def test_no_version_goes(major: int, minor: int, patch: int, build: int) -> None:
    text = f"since version {major}.{minor}.{patch}.{build} it crashes"
    assert redact_text(text) == text


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_keeps_all_but_what_is_tagged(text: str) -> None:
    tag = "|".join(KINDS)
    pieces = re.split(f"<(?:{tag})>", redact_text(text))
    place = 0
    for piece in pieces:
        place = text.index(piece, place) + len(piece)
    assert len(pieces) > 1 or redact_text(text) == text


@settings(deadline=None)
@given(st.text(alphabet="0123456789 -+().@a：.，＠１２", max_size=80))
def test_arrays_agree_with_single_texts(text: str) -> None:
    assert redact_texts(pa.array([text]))[0].as_py() == redact_text(text)


_PYTHON_CANDIDATE = re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: chr(int(m[1], 16)), CANDIDATE)


@settings(max_examples=300)
@given(
    st.one_of(
        st.from_regex(_PYTHON_CANDIDATE),
        st.text("0123456789 .:-+()（）０９．＠@abfxt]好–"),
    )
)
def test_the_quick_look_misses_no_candidate(text: str) -> None:
    text = text.replace("\x00", "")
    texts = pa.array([text])
    if pc.match_substring_regex(texts, CANDIDATE)[0].as_py():
        assert mark_personal(texts).tolist() == [True]
