"""The vocabulary that readable keywords are taken from."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

import rjieba

from models.kernels import MAX_TOKENS
from models.lexicon import load_lexicon
from models.tokens import as_string_array, tokenize

_HAN_WORD = re.compile(r"^[\u3400-\u9fff]{2,4}$")
_LATIN_WORD = re.compile(r"^[a-z][a-z\u00e0-\u024f]{2,19}$")
_FEW_TEXTS = 3
_SIZES = range(1, MAX_TOKENS + 1)
_TOPICS = ("sales", "technical", "after_sales")
_FUNCTION_CLASSES = (
    "negator",
    "intensifier",
    "contrast",
    "question_form",
    "smalltalk",
    "thanks",
    "positive_past",
    "used_it",
    "advice_to_customers",
    "change_request",
    "help_request",
)
_STOP_WORDS = frozenset(
    """the and are was were been have has had did its our your his her him them they that this
    these those with from for but not you all any can cannot could will would should may might
    just get got gets getting very really also even much many more most some such than then
    there here into onto over under out off about after before again while until because what
    when where which who why how one two three four five six seven eight nine ten too now yet
    ever never always often still only own same other another each every both few let lets
    make makes made say says said tell told know think see saw seen want wants need needs like
    take took taken give gave given come came goes going went does doing done way thing things
    lot bit dont didnt doesnt isnt wasnt wont cant ive youre im its thats theres per via etc
    please thanks thank hello yes day days today yesterday tomorrow week weeks month months
    year years time times hour hours minute minutes somebody someone nobody anyone everyone
    everything something anything nothing nowhere myself yourself itself put keep kept keeps
    use used uses using try tried trying back away well sure first second third last next new
    old good great bad best better worse worst love nice fine okay able without within between
    through everywhere instead rather quite almost around half since like looks look looked
    feel feels felt
    """.split()  # noqa: SIM905
) | frozenset(
    """一个 一下 一直 一样 一点 这个 那个 这么 那么 这样 那样 这里 那里 什么 怎么 为什么 我们
    你们 他们 她们 自己 大家 没有 不是 就是 还是 但是 可是 不过 因为 所以 如果 然后 已经 现在
    今天 昨天 明天 早上 晚上 时候 有点 非常 特别 真的 觉得 感觉 知道 可以 可能 应该 需要 希望
    建议 请问 谢谢 你好 您好 一次 两次 三次 第一 第二 第三 一年 一天 两天 三天 几天 半天 小时
    分钟 之前 之后 以后 以前 的话 起来 出来 下来 上去 进去 东西 有人 别人 多少 几个 两个 三个
    怎样 如何 只是 只有 还有 以及 或者 而且 而是 不能 不会 不要 不了 能不能 是不是 有没有 一些
    一份 一种 每次 每天 这种 那种 这次 上次 下次 完全 根本 比较 都是 也是 还要 都没 结果
    """.split()  # noqa: SIM905
)


def build_vocabulary(texts: Iterable[str]) -> tuple[list[str], list[float]]:
    """Readable words of texts and the topic cues, sorted, with weights: the best is highest.

    English words of three or more letters that occur in lower case (names do not), Chinese words of
    two to four characters as cut by rjieba; no stop words and no words that only say how a thing is
    meant. Weights are inverse document frequencies, no higher than that of a word in three texts,
    and doubled for topic cues.
    """
    lexicon = load_lexicon()
    topics = {lexicon.class_number(name) for name in _TOPICS}
    functions = {lexicon.class_number(name) for name in _FUNCTION_CLASSES}
    left_out = set(_STOP_WORDS)
    counts: Counter[str] = Counter()
    for number, phrase in enumerate(lexicon.phrases):
        members = set(lexicon.members[lexicon.offsets[number] : lexicon.offsets[number + 1]])
        if members & functions:
            left_out.add(phrase)
        elif members & topics and " " not in phrase and _is_readable(phrase):
            counts[phrase] += 0
    cues = set(counts)
    total = 0
    for text in texts:
        total += 1
        counts.update({word for word in _cut(text) if _is_readable(word)})
    words = sorted(word for word in counts if word not in left_out)
    words = [word for word, size in zip(words, _count_tokens(words), strict=True) if size in _SIZES]
    return words, [
        (math.log((1 + total) / (1 + max(counts[word], _FEW_TEXTS))) + 1) * (1 + (word in cues))
        for word in words
    ]


def _cut(text: str) -> list[str]:
    words: list[str] = rjieba.cut(text, False)
    return words


def _is_readable(word: str) -> bool:
    return bool(_HAN_WORD.match(word) or _LATIN_WORD.match(word))


def _count_tokens(words: list[str]) -> list[int]:
    offsets = tokenize(as_string_array(words)).row_offsets
    return [int(size) for size in offsets[1:] - offsets[:-1]]
