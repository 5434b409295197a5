"""Texts as people meant them: no markup, no quoted mail, no signature, one kind of white space.

Each function takes and gives an Arrow array. One RE2 scan finds the rows that need work; Python
sees only these.
"""

from __future__ import annotations

import html
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.redaction import change_where

_QUOTE_SIGNS = (
    r"(?m:^>)|wrote:|写道|寫道|(?i:original message|forwarded message|reply above this line)"
    r"|(?i:sent from my)|原始邮件|转发邮件|回复的邮件|发自我|来自我的|从我的|Get Outlook|(?m:^--)"
    r"|(?m:^(?:From|发件人) ?[:：])|____"
)
_MAY_QUOTE = re.compile(_QUOTE_SIGNS)
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
    r"|-{2,} ?(?:Original [Mm]essage|Forwarded message|原始邮件|转发邮件|回复的邮件) ?-{2,}"
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
    if not unicodedata.is_normalized("NFC", text):
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
    mask = pc.match_substring_regex(texts, _NEEDS_CLEANING)
    return drop_empty(change_where(texts, mask, clean_text))


def clean_lines(texts: pa.Array) -> pa.Array:
    """clean_line over an Arrow array; the empty string becomes NULL."""
    mask = pc.match_substring_regex(texts, _NEEDS_CLEANING + r"|\n")
    return drop_empty(change_where(texts, mask, clean_line))


def drop_empty(texts: pa.Array) -> pa.Array:
    """NULL where the string is empty."""
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


# Normal form for comparing --------------------------------------------------------------------

_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_LOWER = bytes(range(256)).lower()
_IS_KEPT = bytes(code not in _DROPPED for code in range(256))
# Wide punctuation takes three bytes, of which the first is one of these.
_LEADS = (0xE2, 0xE3, 0xEF)
_IS_PUNCTUATION = np.zeros((256, 64, 64), bool)
for _sign in "，。！？、；：（）～…“”‘’《》【】「」『』．—–":
    _first, _second, _third = _sign.encode()
    _IS_PUNCTUATION[_first, _second & 63, _third & 63] = True


def normalise_texts(texts: pa.Array) -> pa.Array:
    """Lower case (ASCII) without white space and punctuation, for finding the same text again.

    Works on the bytes of the whole array at once. NULL gives the empty string.
    """
    texts = pc.fill_null(texts, "").cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[
        texts.offset : texts.offset + len(texts) + 1
    ]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]].copy()
    leads = np.flatnonzero((data == _LEADS[0]) | (data == _LEADS[1]) | (data == _LEADS[2]))
    leads = leads[_IS_PUNCTUATION[data[leads], data[leads + 1] & 63, data[leads + 2] & 63]]
    for place in range(3):
        data[leads + place] = 32
    signs = data.tobytes()
    # reduceat gives an empty row its neighbour's byte, and must not start behind the end.
    kept = np.frombuffer(signs.translate(_IS_KEPT) + b"\0", np.uint8)
    starts = offsets - offsets[0]
    lengths = np.add.reduceat(kept, starts[:-1], dtype=np.int64) if len(texts) else starts[:0]
    lengths = np.where(starts[1:] > starts[:-1], lengths, 0)
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(places), pa.py_buffer(signs.translate(_LOWER, _DROPPED))
    )


# What is no feedback --------------------------------------------------------------------------

SPAM_TAGS = ("spam", "junk", "phishing", "垃圾", "垃圾邮件", "垃圾信息", "广告")
TEST_TAGS = ("test", "testing", "qa_test", "test_ticket", "internal_test", "测试", "测试工单")
# Help desks that merge cases without an event of their own tag the one that was closed.
MERGE_TAGS = ("closed_by_merge", "merged")
AUTO_REPLY_TAGS = ("auto_reply", "autoreply", "auto-reply", "out_of_office", "自动回复")

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
    r"|undeliver(?:able|ed)|delivery status notification|mail delivery (?:failed|subsystem)"
    r"|returned mail|自动回复|自动答复|系统退信|退信通知)"
    r"|\bi(?: am|'m) (?:currently )?out of (?:the )?office"
    r"|\bthis is an automat(?:ed|ic) (?:re|e?mail|mess)"
    r"|\bi(?: am|'m) (?:currently )?(?:away )?on (?:annual |parental |sick )?(?:leave|vacation)\b"
    r".{0,80}(?:return|back|respond|reply)|(?:此|本)(?:邮件|信)(?:为|是|由)系统自动(?:发送|回复)|这是(?:一封|一条)自动回复"
    r"|您(?:好|的邮件已收到)[^。]{0,20}(?:正在休假|休假中|外出中|出差中)"
)
_HAS_WORDS = r"[\p{L}\p{N}\p{So}\p{Sk}\p{Sc}]"
_LINKS = r"(?:https?://\S+\s*){3,}"


def find_reasons(titles: pa.Array, bodies: pa.Array) -> pa.Array:
    """Why a text is no feedback: ``spam``, ``test``, ``auto_reply``, ``empty`` or NULL."""
    both = pc.binary_join_element_wise(
        pc.fill_null(titles, ""), pc.fill_null(bodies, ""), "\n", null_handling="skip"
    )
    said = pc.if_else(pc.is_valid(bodies), bodies, titles)
    is_short = pc.less(pc.binary_length(pc.fill_null(said, "")), 100)
    said = pc.fill_null(said, "")
    is_test = pc.or_(
        pc.match_substring_regex(said, _TEST),
        pc.and_(
            pc.match_substring_regex(said, _SAYS_TEST), pc.match_substring_regex(said, _TEST_WORDS)
        ),
    )
    is_test = pc.and_(is_short, is_test)
    is_spam = pc.or_(pc.match_substring_regex(both, _SPAM), pc.match_substring_regex(both, _LINKS))
    is_auto = pc.or_(
        pc.match_substring_regex(pc.fill_null(titles, ""), _AUTO_REPLY),
        pc.match_substring_regex(pc.fill_null(bodies, ""), _AUTO_REPLY),
    )
    is_empty = pc.invert(pc.match_substring_regex(both, _HAS_WORDS))
    return pc.case_when(
        pc.make_struct(is_spam, is_test, is_auto, is_empty), "spam", "test", "auto_reply", "empty"
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
STOCK_ANSWERS = frozenset(normalise_texts(pa.array(_STOCK.split(","))).to_pylist())
