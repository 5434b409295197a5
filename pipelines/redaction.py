"""Personal data out of texts: mail addresses, phones, ID cards, bank cards and IP addresses.

One pass over the bytes and an RE2 scan find the few rows that may hold any; only these meet the
exact rules. The rules look for the shape, the check digit where there is one, and the label in
front: "order 13800138000" is an order number, "call 13800138000" is not. Dates, times, prices,
versions, and order, case and flight numbers stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KINDS = ("email", "phone", "id_card", "bank_card", "ip_address")

# Full-width forms are matched as their ASCII twins, one character for one, so that spans still fit.
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_WIDE_SIGN = re.compile("[０-９Ａ-Ｚａ-ｚ＠．－＋]|[（](?=[0-9])")

# RE2: any row that a rule below could match. Seven digits with at most three signs between, not
# after a letter: no rule begins inside an order number.
CANDIDATE = (
    r"[@＠]|(?i:\bat\s?[\])])"
    r"|(?:^|[^0-9A-Za-z０-９])(?:[0-9０-９][ .()（）\-－+＋\x{2010}-\x{2015}]{0,3}){7}"
    r"|[0-9０-９][.．][0-9０-９]{1,3}[.．][0-9０-９]{1,3}[.．][0-9０-９]"
    r"|[0-9A-Fa-f]::?[0-9A-Fa-f]{1,4}::?[0-9A-Fa-f]"
)

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}+"
    r"(?:\s?@\s?|\s?[\[(]\s?at\s?[\])]\s?)"
    r"(?:[A-Za-z0-9\-]{1,63}(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,8}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_SPELT_AT = re.compile(r"[\[(]\s?at\s?[\])]", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![0-9A-Za-z_.])\d{1,3}(?:\.\d{1,3}){3}(?![0-9A-Za-z_]|\.\d)")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{6,39}"
    r"(?![0-9A-Za-z_:]|\.\d)"
)
_ID_CARD = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}[ \-]?(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"[ \-]?\d{3}[0-9Xx](?![0-9A-Za-z])"
)
_BANK_CARD = re.compile(r"(?<![0-9A-Za-z])\d(?:[ \-]?\d){11,18}(?![0-9A-Za-z]|[ \-]\d)")
_GROUPED = re.compile(r"\d{4}[ \-]\d{4}[ \-]\d{4}[ \-]\d{2,7}|\d{4}[ \-]\d{6}[ \-]\d{4,5}")

_EDGE = r"(?<![0-9A-Za-z_])(?<![A-Za-z0-9][\-_/.#=])"
_END = r"(?![0-9A-Za-z_]|[\-./:]\d)"
_PHONE = re.compile(
    _EDGE
    + "(?:"
    + "|".join(
        (
            # Chinese mobile
            r"(?:(?:\+|00)?86[ \-]?)?1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}",
            # Chinese landline with its area code
            r"(?:(?:\+|00)86[ \-]?)?(?:\(0\d{2,3}\) ?|0\d{2,3}[ \-])[2-8]\d{2,3}[ \-]?\d{4}"
            r"(?:(?:-|转| ?ext\.? ?)\d{1,6})?",
            r"0(?:10|2[0-57-9]|[3-9]\d{2})[2-8]\d{6,7}(?:(?:-|转)\d{1,6})?",
            # 400 and 800 numbers
            r"[48]00[ \-]\d{3,4}[ \-]?\d{3,4}",
            # international, with + or 00
            r"\+\d{1,3}[ .\-]?(?:\(\d{1,4}\)[ .\-]?)?\d{1,5}(?:[ .\-]?\d{2,5}){1,5}",
            r"00[1-9]\d{0,2}[ .\-](?:\(\d{1,4}\)[ .\-]?)?\d{1,5}(?:[ .\-]?\d{2,5}){1,5}",
            # North America
            r"(?:1[ .\-])?(?:\([1-9]\d{2}\) ?|[1-9]\d{2}[ .\-])\d{3}[ .\-]\d{4}",
            # United Kingdom, France and others that begin with 0
            r"0\d{2,4}[ \-]\d{3,4}[ \-]\d{3,4}",
            r"0\d{4}[ \-]\d{6}",
            r"07[1-9]\d{8}",
            r"0[1-9](?:[ .\-]\d{2}){4}",
            # India
            r"[6-9]\d{4} \d{5}",
        )
    )
    + ")"
    + _END
)
# Where phones and cards can be: signs that numbers are written with, seven digits at least.
_RUN = re.compile(r"[+(\d](?:[ ().\-+转]{0,3}\d){6,}")
_LABELLED_DIGITS = re.compile(r"(?<![0-9A-Za-z])\(?\d(?:[ ()\-]{0,2}\d){5,18}" + _END)

# What stands right in front of a number says what the number is.
_NUMBER_WORDS = r"(?:\s*(?:no|nos|num|number|id|code|is|was|#|号码|编号|号|码|是|为))*[.:：#＃\s]*"
_IS_REFERENCE = re.compile(
    r"(?:(?<![A-Za-z])(?:order|case|ticket|invoice|tracking|parcel|shipment|waybill|reference|ref|transaction"
    r"|booking|flight|serial|s/?n|imei|isbn|sku|model|part|item|product|batch|policy|contract)"
    r"|订单|单号|运单|快递|流水|发票|工单|编号|航班|序列|型号|批次|货号|合同|保单|票号|案件|追踪)"
    + _NUMBER_WORDS
    + r"(?:[A-Za-z]{1,4}[\- ]?)?$",
    re.IGNORECASE,
)
_IS_VERSION = re.compile(
    r"(?:\bv|version|\bver|release|build|firmware|driver|update|android|ios|app|chrome|firefox"
    r"|版本|固件|系统|驱动|升级到|更新到|section|chapter|第)[号为是:：.\s]*$",
    re.IGNORECASE,
)
_IS_PHONE = re.compile(
    r"(?:(?<![A-Za-z])(?:(?:tele|cell|mobile )?phone|tel|mobile|cell|call|text|ring|dial|whatsapp"
    r"|contact|fax|reach)"
    r"|电话|手机|联系方式|联系|致电|拨打|座机|来电|打给|微信|传真)"
    r"(?:\s*(?:me|us|him|her|number|no|num|is|on|at|us|my|our|号码|号|我|是|为|到|：|:|\.|\s))*$",
    re.IGNORECASE,
)
_IS_ID_CARD = re.compile(
    r"(?:身份证|证件|id card|identity card|passport|护照)" + _NUMBER_WORDS + "$", re.IGNORECASE
)
_IS_BANK_CARD = re.compile(
    r"(?:银行卡|信用卡|储蓄卡|借记卡|卡号|账号|账户|card|visa|mastercard|amex|account|iban)"
    + _NUMBER_WORDS
    + "$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d{2}([\-./ ]?)(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<!\d)(?:0?[1-9]|[12]\d|3[01])([\-./])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d{2}(?!\d)"
)
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'，。；）)]+", re.IGNORECASE)
_URL_MAY_HOLD = re.compile(r"phone|tel|mobile|card", re.IGNORECASE)

# Issuer ranges and lengths; 9558 and the like are Chinese debit cards older than UnionPay's 62.
_ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d{2}|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|6(?:011|4[4-9]\d|5\d{2})\d{12}|62\d{14,17}|9558\d{15}|60[13]\d{13,16}"
)
_LOOK_BACK = 32


def luhn_holds(digits: str) -> bool:
    """Whether a digit string carries its Luhn check digit (ISO/IEC 7812-1)."""
    total = 0
    for place, sign in enumerate(reversed(digits)):
        value = ord(sign) - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def id_card_holds(number: str) -> bool:
    """Whether 18 signs are a Chinese ID number: ISO 7064 MOD 11-2 over the first 17 (GB 11643)."""
    total = sum((1 << (17 - n)) % 11 * int(sign) for n, sign in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


Span = tuple[int, int]


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _before(text: str, start: int) -> str:
    return text[max(0, start - _LOOK_BACK) : start]


def _find_emails(text: str, runs: list[Span]) -> Iterator[Span]:
    if "@" in text or _SPELT_AT.search(text):
        yield from (match.span() for match in _EMAIL.finditer(text))


def _find_addresses(text: str, runs: list[Span]) -> Iterator[Span]:
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            if all(int(part) < 256 for part in match[0].split(".")) and not _IS_VERSION.search(
                _before(text, match.start())
            ):
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            groups = [group for group in match[0].split(":") if group]
            if len(groups) < 3 or ("::" not in match[0] and len(groups) != 8):
                continue
            try:
                ipaddress.IPv6Address(match[0])
            except ValueError:
                continue
            yield match.span()


def _find_id_cards(text: str, runs: list[Span]) -> Iterator[Span]:
    for start, end in runs:
        if end - start < 17:
            continue
        for match in _ID_CARD.finditer(text, start, end + 3):
            number = match[0].replace(" ", "").replace("-", "")
            if id_card_holds(number) or _IS_ID_CARD.search(_before(text, match.start())):
                yield match.span()


def _find_bank_cards(text: str, runs: list[Span]) -> Iterator[Span]:
    for start, end in runs:
        if end - start < 12:
            continue
        for match in _BANK_CARD.finditer(text, start, end + 3):
            number, before = _digits(match[0]), _before(text, match.start())
            is_shaped = bool(_ISSUER.fullmatch(number))
            if _IS_BANK_CARD.search(before):
                is_card = is_shaped or luhn_holds(number) or len(number) >= 15
            else:
                is_card = is_shaped and luhn_holds(number)
                is_grouped = bool(_GROUPED.fullmatch(match[0]))
                is_card = is_card and (is_grouped or not _IS_REFERENCE.search(before))
            if is_card:
                yield match.span()


def _find_phones(text: str, runs: list[Span]) -> Iterator[Span]:
    for start, end in runs:
        # The end leaves room for what the rules look ahead for, and for an extension.
        for match in _PHONE.finditer(text, start, end + 12):
            if not 8 <= len(_digits(match[0])) <= 17 or _DATE.search(match[0]):
                continue
            before = _before(text, match.start())
            is_version = "." in match[0] and _IS_VERSION.search(before)
            if match[0][0] == "+" or not (is_version or _IS_REFERENCE.search(before)):
                yield match.span()
        for match in _LABELLED_DIGITS.finditer(text, start, end + 12):
            if 7 <= len(_digits(match[0])) <= 15 and not _DATE.search(match[0]):
                before = _before(text, match.start())
                if _IS_PHONE.search(before) and not _IS_REFERENCE.search(before):
                    yield match.span()


# In this order: a later rule never takes a part of what an earlier one has taken.
_FINDERS: dict[str, Callable[[str, list[Span]], Iterator[Span]]] = {
    "email": _find_emails,
    "ip_address": _find_addresses,
    "id_card": _find_id_cards,
    "bank_card": _find_bank_cards,
    "phone": _find_phones,
}


def redact_text(text: str, kinds: Collection[str] = KINDS) -> str:
    """The text with each piece of personal data replaced by its tag, such as ``<phone>``."""
    flat = text.translate(_WIDE) if _WIDE_SIGN.search(text) else text
    runs = [match.span() for match in _RUN.finditer(flat)]
    taken: list[tuple[int, int, str | None]] = []
    if "://" in flat or "www." in flat:
        taken = [
            (*match.span(), None)
            for match in _URL.finditer(flat)
            if not _URL_MAY_HOLD.search(match[0]) and "@" not in match[0]
        ]
    for kind, find in _FINDERS.items():
        if kind not in kinds:
            continue
        for start, end in find(flat, runs):
            is_free = all(end <= begin or start >= stop for begin, stop, _ in taken)
            if is_free or (kind == "ip_address" and flat[start - 2 : start] == "//"):
                taken.append((start, end, kind))
    if not taken:
        return text
    for start, end, tag in sorted(taken, key=lambda span: span[0], reverse=True):
        if tag is not None:
            text = f"{text[:start]}<{tag}>{text[end:]}"
    return text


def redact_texts(texts: pa.Array, kinds: Collection[str] = KINDS) -> pa.Array:
    """Redact an Arrow array of strings; NULL stays NULL."""
    if not kinds:
        return texts
    from models.marks import mark_personal

    may_hold = match_where(texts, mark_personal(texts), CANDIDATE)
    return change_where(texts, may_hold, lambda text: redact_text(text, kinds))


def match_where(texts: pa.Array, marks: np.ndarray, pattern: str) -> pa.Array:
    """Where texts match an RE2 pattern, which is tried on marked ones only; false for NULL."""
    places = np.flatnonzero(marks)
    found = np.zeros(len(texts), bool)
    if len(places):
        found[places] = as_marks(pc.match_substring_regex(texts.take(pa.array(places)), pattern))
    return pa.array(found)


def as_marks(values: pa.Array) -> np.ndarray:
    """An Arrow array of booleans as NumPy's; false for NULL."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


def change_where(texts: pa.Array, mask: pa.Array, change: Callable[[str], str]) -> pa.Array:
    """Apply a Python function to the strings where mask is true, and to no others."""
    mask = pc.fill_null(mask, False)
    chosen = texts.filter(mask)
    if not len(chosen):
        return texts
    changed = pa.array([change(text) for text in chosen.to_pylist()], texts.type)
    return pc.replace_with_mask(texts, mask, changed)
