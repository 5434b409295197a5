"""Texts as people meant them: no markup, no quoted mail, no signature, one kind of white space.

Each function takes and gives an Arrow array. A pass over the bytes and an RE2 scan of what it marks
find the rows that need work; Python sees only these.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.redaction import as_marks, change_where, match_where

if TYPE_CHECKING:
    from models.marks import Literals

_QUOTE_SIGNS = (
    r"(?m:^>)|wrote:|写道|寫道|(?i:original message|forwarded message|reply above this line)"
    r"|(?i:sent from my|replied message)|原始邮件|转发邮件|回复的邮件|回复的原邮件|转发的消息"
    r"|发自我|来自我的|从我的|Get Outlook|(?m:^--)"
    r"|(?m:^(?:From|发件人) ?[:：])|____"
)
_MAY_QUOTE = re.compile(_QUOTE_SIGNS)
# One of these is in each match of the signs above, unless a line begins with ">" or "--".
_QUOTE_WORDS = (
    "wrote:", "写道", "寫道", "original message", "forwarded message", "reply above this line",
    "sent from my", "replied message", "原始邮件", "转发邮件", "回复的邮件", "回复的原邮件",
    "转发的消息", "发自我", "来自我的", "从我的",
    "get outlook", "from:", "from :", "from：", "from ：", "发件人", "____",
)  # fmt: skip
# RE2: rows that clean_text would change. All that is not caught here is clean already.
_NEEDS_CLEANING = (
    r"[\x00-\x09\x0b-\x1f\x7f-\xa0\xad\x{300}-\x{36f}\x{1680}\x{2000}-\x{200f}\x{2028}-\x{202f}"
    r"\x{205f}-\x{206f}\x{3000}\x{feff}<&]"
    r"|  | \n|\n |\n\n\n|^[ \n]|[ \n]$" + f"|{_QUOTE_SIGNS}"
)

_SPACES = dict.fromkeys([9, 0xA0, 0x1680, 0x202F, 0x205F, 0x3000, *range(0x2000, 0x200B)], " ")
_BREAKS = dict.fromkeys([0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029], "\n")
_CONTROLS = [*range(9), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0), 0xAD]
_HIDDEN = [0x200B, 0x200C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
_GONE = dict.fromkeys([*_CONTROLS, *_HIDDEN], "")
_SIGNS = str.maketrans({**_GONE, **_BREAKS, **_SPACES})
# What else NFC changes are other signs (CJK compatibility ideographs), and stays.
_ACCENTS = re.compile("[\u0300-\u036f]")
# A zero-width joiner holds an emoji together; anywhere else it hides.
_LOOSE_JOINER = re.compile("(?<![\u2190-\u3299\ufe0f\U0001f000-\U0001faff])\u200d")

_TAGS = (
    "a|abbr|address|area|article|aside|audio|b|base|bdi|bdo|big|blockquote|body|br|button|canvas"
    "|caption|center|cite|code|col|colgroup|dd|del|details|dfn|dir|div|dl|dt|em|embed|fieldset"
    "|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|legend"
    "|li|link|main|map|mark|meta|nav|noscript|o:p|object|ol|option|p|picture|pre|q|s|samp|script|section|select|small"
    "|source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|tt"
    "|u|ul|var|video|wbr"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"<br\s*/?>|</?(?:p|div|li|tr|h[1-6]|ul|ol|table|blockquote|pre|article|section|hr|dd|dt)"
    r"(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ITEM_TAG = re.compile(r"<li(?:\s[^<>]*)?>", re.IGNORECASE)
_QUOTE_TAG = re.compile(
    r"<(?:blockquote[^<>]{0,200}(?:type=[\"']?cite|gmail_quote)|div[^<>]{0,200}"
    r"(?:gmail_quote|yahoo_quoted|moz-cite-prefix|divRplyFwdMsg|zmail_extra|qmail-quote))[^<>]*>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_UNSEEN = ("script", "style", "head", "title", "template", "noscript")
_HAS_UNSEEN = re.compile(rf"<(?:{'|'.join(_UNSEEN)}|!--)", re.IGNORECASE)

# From here on all is quoted. Each must stand on a line (or two) of its own.
_QUOTE_STARTS = re.compile(
    r"^(?:"
    r"On [^\n]{4,200}(?:\n[^\n]{0,200})? wrote:"
    r"|(?:在|于)?[^\n]{0,120}(?:写道|寫道)[ ]?[:：]"
    r"|-{2,} ?(?:Original [Mm]essage|Forwarded [Mm]essage|Replied [Mm]essage"
    r"|原始邮件|转发邮件|回复的原?邮件|转发的消息) ?-{2,}"
    r"|##- ?[^\n]{0,80}reply above this line[^\n]{0,80}"
    r"|_{10,}"
    r"|From: [^\n]{1,200}\n(?:[^\n]{1,200}\n)?(?:Sent|Date|To): [^\n]{1,200}"
    r"|发件人 ?[:：][^\n]{1,200}\n(?:[^\n]{1,200}\n)?"
    r"(?:发送时间|日期|时间|收件人) ?[:：][^\n]{1,200}"
    r")[ ]*$",
    re.MULTILINE,
)
_QUOTED_LINES = re.compile(r"^>[^\n]*\n?", re.MULTILINE)
# A signature: what follows it is at most this long, or it is taken for text.
_SIGNATURE = re.compile(
    r"^(?:-- ?|Sent from my [^\n]{1,40}|Get Outlook for [^\n]{1,40}"
    r"|(?:发自|来自|从)我的[^\n]{1,30})$",
    re.MULTILINE,
)
_SIGNATURE_LENGTH = 400

_BLANKS = re.compile("  +")
_LINE_ENDS = re.compile(" ?\n ?")
_GAPS = re.compile("\n{3,}")


def _cut_unseen(text: str) -> str:
    """Drop elements whose content is never shown, and comments; linear in the text's length."""
    for name in _UNSEEN:
        lower, parts, at = text.lower(), [], 0
        if len(lower) != len(text):
            lower = text
        while True:
            begin = lower.find(f"<{name}", at)
            while begin >= 0 and lower[begin + len(name) + 1 : begin + len(name) + 2].isalnum():
                begin = lower.find(f"<{name}", begin + 1)
            end = lower.find(f"</{name}", begin) if begin >= 0 else -1
            close = lower.find(">", end) if end >= 0 else -1
            if close < 0:
                break
            parts.append(text[at:begin])
            at = close + 1
        text = "".join([*parts, text[at:]])
    parts, at = [], 0
    while (begin := text.find("<!--", at)) >= 0 and (end := text.find("-->", begin)) >= 0:
        parts.append(text[at:begin])
        at = end + 3
    return "".join([*parts, text[at:]])


def strip_markup(text: str) -> str:
    """Plain text of HTML. Only names of HTML count as tags: "<3" and "<my order>" stay."""
    if "<" in text and (_TAG.search(text) or "<!--" in text):
        quote = _QUOTE_TAG.search(text)
        if quote and _TAG.sub("", text[: quote.start()]).strip():
            text = text[: quote.start()]
        if _HAS_UNSEEN.search(text):
            text = _cut_unseen(text)
        text = text.replace("\r\n", "\n").replace("\n", " ")
        text = _ITEM_TAG.sub("\n- ", text)
        text = _TAG.sub("", _BLOCK_TAG.sub("\n", text))
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return text


def strip_quotes(text: str) -> str:
    """Drop quoted mail and the signature; the text as it is if nothing else would be left."""
    kept = text
    start = _QUOTE_STARTS.search(kept)
    if start and kept[: start.start()].strip():
        kept = kept[: start.start()]
    elif start and start[0].startswith("##-"):
        kept = kept[start.end() :]
    if ">" in kept:
        kept = _QUOTED_LINES.sub("", kept)
    for mark in _SIGNATURE.finditer(kept):
        if len(kept) - mark.end() <= _SIGNATURE_LENGTH:
            kept = kept[: mark.start()]
            break
    return kept if kept.strip() else text


def tidy_spaces(text: str) -> str:
    """One kind of space and line break; no control or zero-width signs; composed accents."""
    text = text.replace("\r\n", "\n").translate(_SIGNS)
    if "\u200d" in text:
        text = _LOOSE_JOINER.sub("", text)
    if _ACCENTS.search(text):
        text = unicodedata.normalize("NFC", text)
    text = _LINE_ENDS.sub("\n", _BLANKS.sub(" ", text))
    return _GAPS.sub("\n\n", text).strip()


def clean_text(text: str) -> str:
    """Markup, quotes, signature and odd signs out of one text."""
    if "<" in text or "&" in text:
        text = strip_markup(text)
    text = tidy_spaces(text)
    return tidy_spaces(strip_quotes(text)) if _MAY_QUOTE.search(text) else text


def clean_line(text: str) -> str:
    """A title or subject on one line, without markup."""
    return " ".join(tidy_spaces(strip_markup(text)).split())


def clean_texts(texts: pa.Array) -> pa.Array:
    """clean_text over an Arrow array; the empty string becomes NULL."""
    return drop_empty(change_where(texts, _find_unclean(texts), clean_text))


def clean_lines(texts: pa.Array) -> pa.Array:
    """clean_line over an Arrow array; the empty string becomes NULL."""
    is_unclean = pc.or_(_find_unclean(texts), pc.match_substring(texts, "\n"))
    return drop_empty(change_where(texts, is_unclean, clean_line))


def _find_unclean(texts: pa.Array) -> pa.Array:
    from models.marks import mark_untidy

    marks = mark_untidy(texts) | (_quote_words().find(texts) > 0)
    return match_where(texts, marks, _NEEDS_CLEANING)


@functools.cache
def _quote_words() -> Literals:
    from models.marks import Literals

    return Literals({1: _QUOTE_WORDS})


def drop_empty(texts: pa.Array) -> pa.Array:
    """NULL where the string is empty."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


def shorten(text: str, most: int = 19_900) -> str:
    """A text that passes for one that somebody said; "[…]" stands where it was cut."""
    return text if len(text) <= most else f"{text[:most].rstrip()} […]"


# Normal form for comparing --------------------------------------------------------------------


def normalise_texts(texts: pa.Array) -> pa.Array:
    """Lower case (ASCII) without white space and punctuation, for finding the same text again.

    NULL gives the empty string.
    """
    from models.marks import squeeze

    return squeeze(texts)


# What is no feedback --------------------------------------------------------------------------

SPAM_TAGS = ("spam", "junk", "phishing", "垃圾", "垃圾邮件", "垃圾信息", "广告")
TEST_TAGS = ("test", "testing", "qa_test", "test_ticket", "internal_test", "测试", "测试工单")
# Help desks that merge cases without an event of their own tag the one that was closed.
MERGE_TAGS = ("closed_by_merge", "merged")
AUTO_REPLY_TAGS = ("auto_reply", "autoreply", "auto-reply", "out_of_office", "自动回复")
# What a mailbox gets besides; the words alone may be what a customer writes about.
BOUNCE_TAGS = ("bounced_mail",)
BULK_TAGS = ("bulk_mail",)

_SPAM = (
    r"(?i)\b(?:viagra|cialis|payday loans?|casino bonus|crypto (?:giveaway|investment plan)"
    r"|seo (?:services?|packages?)|(?:buy|cheap|\d+k?) (?:cheap )?(?:followers|backlinks)"
    r"|guest posts? (?:on|for) your"
    r"|increase your (?:website )?traffic|rank (?:your website )?(?:on )?(?:the )?(?:first page|#1)"
    r"|boost your (?:website|ranking|seo)|(?:crypto|forex|trading) signals"
    r"|we are an? (?:leading|professional) (?:factory|manufacturer|supplier|exporter)"
    r"|make money (?:fast|online)|earn [^\w\s]?[\d,.]+ (?:a|per) (?:day|week)"
    r"|click here to (?:claim|win)"
    r"|you (?:have|'ve) won (?:a|the|\$)|hot singles|bitcoin doubler|nigerian prince)\b"
    r"|代开[^，。！\n]{0,6}发票|刷单(?:兼职|赚|返利)|兼职[，、]?(?:日结|刷单)|日赚\d+|网赚|时时彩|六合彩"
    r"|(?:网上|在线|澳门)(?:赌场|博彩|娱乐城)|裸聊|约炮|无抵押(?:贷款|秒批)|贷款(?:秒批|包下款)|代刷(?:信誉|好评|粉)"
    r"|(?:无抵押|贷款)[^。！\n]{0,16}(?:不看|不查|无需)征信|(?:您的?)?(?:号码|手机号)已?中奖"
    r"|(?:SEO|网站)[^。\n]{0,6}(?:快速排名|上首页)|厂家直销[^。\n]{0,20}(?:欢迎来电|量大从优)"
    r"|办(?:假)?证(?:刻章|联系)|加(?:我)?(?:微信|薇信|威信|[vV][xX信]).{0,14}(?:领取|赚|兼职|返利|免费送|福利)"
)
_TEST = (
    r"(?i)^(?:\[test\].*|【测试】.*"
    r"|(?:(?:this is )?(?:just |only )?(?:a )?)?test(?:ing|s)?(?:[ ,.!\-_#]*(?:test(?:ing)?|ticket"
    r"|message|e?mail|case|only|please|pls|ignore|\d+))*[ .!]*"
    r"|(?:please|pls) ignore(?: this)?(?: test)?[ .!]*|(?:asdf|qwer(?:ty)?|sdfg|hjkl)+[a-z]{0,4}"
    r"|(?:这(?:是|只是)?(?:一条|一个|个)?)?测试(?:测试|一下|数据|工单|消息|邮件|内容|反馈|专用|勿回|请忽略|用|单"
    r"|[ ，。！,.!\d])*|请忽略[。！]?)$"
)
# A text of nothing but such words, of which one says that it is a test.
_TEST_WORDS = (
    r"(?i)^(?:(?:test(?:ing|s)?|asdf|qa|tickets?|messages?|e?mails?|case|form|web|system|only|just|this"
    r"|is|an?|of|the|please|pls|ignore|delete|do|don't|not|answer|reply|\d+)(?:[^\w\p{Han}]+|$|\b)"
    r"|测试|[一下条个张]|表单|工单|数据|消息|邮件|内容|反馈|系统|麻烦|直接|删除|请|勿|处理|回复|忽略|这|是|只|的|用"
    r"|[\s\p{P}])+$"
)
_SAYS_TEST = r"(?i)\btest(?:ing|s)?\b|测试"
_AUTO_REPLY = (
    r"(?i)^(?:automatic reply|auto[\- ]?reply|auto[\- ]?response|out of (?:the )?office"
    r"|undeliver(?:able|ed) (?:e?-?mail|message)|undeliverable ?[:：]"
    r"|delivery status notification|mail delivery (?:failed|subsystem)"
    r"|returned mail|自动回复|自动答复|系统退信|退信通知)"
    r"|\bi(?: am|'m) (?:currently )?out of (?:the )?office"
    r"|\bthis is an automat(?:ed|ic) (?:re|e?mail|mess)"
    r"|\bi(?: am|'m) (?:currently )?(?:away )?on (?:annual |parental |sick )?(?:leave|vacation)\b"
    r".{0,80}(?:return|back|respond|reply)|(?:此|本)(?:邮件|信)(?:为|是|由)系统自动(?:发送|回复)|这是(?:一封|一条)自动回复"
    r"|您(?:好|的邮件已收到)[^。]{0,20}(?:正在休假|休假中|外出中|出差中)"
)
_LINKS = r"(?:https?://\S+\s*){3,}"
# One of these is in each match of the pattern they are named after.
_SPAM_WORDS = (
    "viagra", "cialis", "payday loan", "casino bonus", "crypto giveaway",
    "crypto investment plan", "seo service", "seo package", " followers", " backlinks",
    "guest post", "increase your ", "rank ", "boost your ", " signals", " factory",
    " manufacturer", " supplier", " exporter", "make money ", "earn ", "click here to ",
    "you have won", "'ve won", "hot singles", "bitcoin doubler", "nigerian prince",
    "代开", "刷单", "兼职", "日赚", "网赚", "时时彩", "六合彩", "赌场", "博彩", "娱乐城", "裸聊",
    "约炮", "贷款", "无抵押", "代刷", "征信", "中奖", "快速排名", "上首页", "厂家直销", "证刻章",
    "证联系", "加微信", "加我微信", "加薇信", "加我薇信", "加威信", "加我威信", "加vx", "加我vx",
    "加v信", "加我v信",
)  # fmt: skip
_LINK_WORDS = ("http://", "https://")
_AUTO_REPLY_WORDS = (
    "automatic reply", "auto reply", "auto-reply", "autoreply", "auto response", "auto-response",
    "autoresponse", "out of office", "out of the office", "undeliver", "delivery status",
    "mail delivery", "returned mail", "自动回复", "自动答复", "系统退信", "退信通知",
    "this is an automat", "n leave", "l leave", "k leave", "n vacation", "l vacation",
    "k vacation", "系统自动", "正在休假", "休假中", "外出中", "出差中",
)  # fmt: skip
_SPAM_BIT, _LINK_BIT, _AUTO_REPLY_BIT = 1, 2, 4
_HAS_WORDS = r"[\p{L}\p{N}\p{So}\p{Sk}\p{Sc}]"


def find_reasons(titles: pa.Array, bodies: pa.Array) -> pa.Array:
    """Why a text is no feedback: ``spam``, ``test``, ``auto_reply``, ``empty`` or NULL."""
    both = pc.binary_join_element_wise(
        pc.fill_null(titles, ""), pc.fill_null(bodies, ""), "\n", null_handling="skip"
    )
    said = pc.fill_null(pc.if_else(pc.is_valid(bodies), bodies, titles), "")
    is_short = as_marks(pc.less(pc.binary_length(said), 100))
    is_test = pc.or_(
        match_where(said, is_short, _TEST),
        match_where(said, as_marks(match_where(said, is_short, _SAYS_TEST)), _TEST_WORDS),
    )
    words = _reason_words().find(both)
    is_spam = pc.or_(
        match_where(both, words & _SPAM_BIT > 0, _SPAM),
        match_where(both, words & _LINK_BIT > 0, _LINKS),
    )
    may_be_auto = words & _AUTO_REPLY_BIT > 0
    is_auto = pc.or_(
        match_where(titles, may_be_auto, _AUTO_REPLY),
        match_where(bodies, may_be_auto, _AUTO_REPLY),
    )
    is_empty = pc.invert(pc.match_substring_regex(both, _HAS_WORDS))
    return pc.case_when(
        pc.make_struct(is_spam, is_test, is_auto, is_empty), "spam", "test", "auto_reply", "empty"
    )


@functools.cache
def _reason_words() -> Literals:
    from models.marks import Literals

    return Literals(
        {_SPAM_BIT: _SPAM_WORDS, _LINK_BIT: _LINK_WORDS, _AUTO_REPLY_BIT: _AUTO_REPLY_WORDS}
    )


# Short answers that many people give word for word; the same one twice is no duplicate.
_STOCK = """
great app, good app, nice app, love it, love this app, great service, good service,
very good, very nice, excellent service, works great, thank you, thank you very much,
thanks a lot, highly recommended, highly recommend, great product, good product,
fast delivery, good quality, great quality, no comment, nothing to add, all good,
very satisfied, excellent app, best app ever, would recommend, as described,
very happy with it, great customer service, excellent customer service,
very helpful thank you,
好评, 很好, 非常好, 不错, 满意, 非常满意, 很满意, 五星好评, 质量很好, 物流很快,
服务很好, 态度很好, 默认好评, 系统默认好评, 此用户没有填写评价, 此用户没有填写评论,
该用户未填写评价内容, 用户未填写评价, 评价方未及时做出评价系统默认好评, 没有意见,
暂无建议, 谢谢, 非常感谢, 东西很好, 还可以, 值得购买
"""


@functools.cache
def stock_answers() -> frozenset[str]:
    """Short answers that many people give, in the form of ``normalise_texts``."""
    return frozenset(normalise_texts(pa.array(_STOCK.split(","))).to_pylist())
