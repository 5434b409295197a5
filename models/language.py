"""Which language a text is in, by script first and by stop words among Latin scripts.

Good enough to route a text to the English and Chinese models or to say that neither serves it; no
replacement for a language identifier where related languages must be told apart.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa

from models.scanning import Scan, Vocabulary, scan
from models.tokens import Array, as_string_array, tokenize

SERVED_LANGUAGES = ("en", "zh")
_SCRIPTS = ("none", "latin", "han", "kana", "ko", "ru", "ar", "he", "el", "th", "hi", "uk", "fa")
_NONE, _LATIN, _HAN, _KANA, _KOREAN, _CYRILLIC, _ARABIC, _UKRAINIAN, _PERSIAN = (
    *range(7), 11, 12
)  # fmt: skip
_SCRIPT_LANGUAGES = {"none": "und", "han": "zh", "kana": "ja"}
# A Han character says about as much as a short word.
_LETTERS_PER_HAN = 7
_MANY_WORDS = 6
_RANGES = {
    "latin": [(0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x1E00, 0x1F00)],
    "han": [(0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x3FFFE)],
    "kana": [(0x3041, 0x3097), (0x30A1, 0x30FB), (0x31F0, 0x3200), (0xFF66, 0xFF9E)],
    "ko": [(0xAC00, 0xD7A4), (0x1100, 0x1200), (0x3131, 0x318F)],
    "ru": [(0x400, 0x530)],
    "ar": [(0x620, 0x64B), (0x671, 0x6D4), (0x750, 0x780), (0xFB50, 0xFE00), (0xFE70, 0xFEFD)],
    "he": [(0x5D0, 0x5EB)],
    "el": [(0x370, 0x400), (0x1F00, 0x2000)],
    "th": [(0xE01, 0xE3B), (0xE40, 0xE4F)],
    "hi": [(0x904, 0x93A), (0x958, 0x962)],
}
_MARKED_LETTERS = {_UKRAINIAN: "іїєґІЇЄҐ", _PERSIAN: "پچژگ"}
_STOP_WORDS = {
    "en": """the a an and or but is are was were be been have has had do does did not no it its
        this that these those i you he she we they my your our their me us him her them to of
        in on at for with from by as if so too very can cant could would should will wont just
        get got please thanks thank what when where how why which who there here all any some
        more than after before again never still now out up down about im ive dont didnt
        doesnt isnt because while until over into only also even good bad great app love like
        need want use help order service""",
    "es": """el la los las un una y o pero es son era muy no que de en por para con como se lo mi
        tu su me te nos hay esta este esto estoy gracias porque cuando todo más qué bien mal
        puede tengo tiene servicio aplicación""",
    "fr": """le la les un une des et ou mais est sont était très pas que de du dans pour avec comme
        se ce cette je tu il elle nous vous mon votre merci bonjour quand tout plus qui ne sur
        au aux ai service""",
    "de": """der die das ein eine einen und oder aber ist sind war sehr nicht dass von im für mit
        wie sich ich du er sie wir ihr mein ihre danke wenn alles mehr auch noch nur bei auf
        zu den dem habe hat wird kann""",
    "pt": """o a os as um uma e ou mas é são era muito não que de em por para com como se meu sua
        eu você obrigado obrigada quando tudo mais está isso do da dos das no na bem""",
    "it": """il lo la gli le un una e o ma è sono era molto non che di in per con come si mio tuo
        io noi grazie quando tutto più questo questa del della ho ha""",
    "nl": """de het een en of maar is zijn was zeer niet dat van in voor met als ik je jij hij wij
        ze mijn bedankt wanneer alles meer ook nog maar bij op te den heb heeft wordt kan geen""",
    "id": """yang dan di ke dari ini itu tidak ada untuk dengan saya kami anda sangat bisa sudah
        belum juga terima kasih aplikasi nya bagus tolong kenapa""",
    "tr": "ve bir bu çok için ama değil ben sen biz ile daha ne var yok gibi kadar güzel",
    "pl": "i w na z nie to się jest że do jak ale co za dla już tak są bardzo dziękuję mam",
    "vi": "và là của không có cho được tôi bạn này một rất với như đã thì quá cảm ơn",
}
_CODES = ("und", "other", "en", "zh", "ja", *_SCRIPTS[4:], *list(_STOP_WORDS)[1:])


def detect_language(texts: Any) -> pa.Array:
    """Language codes (string) of texts: ISO 639-1, "other" if only the script is known, or "und".

    "und" is for texts without letters. Chinese and English are told by the share of Han characters.
    """
    return decide_language(scan(texts, vocabulary(), is_signing=False))


def decide_language(found: Scan) -> pa.Array:
    """Language codes, as of ``detect_language``, of texts that were scanned with ``vocabulary``."""
    number = {code: index for index, code in enumerate(_CODES)}
    counts = found.script_counts.copy()
    ukrainian = counts[:, _UKRAINIAN] > 0
    persian = counts[:, _PERSIAN] > 0
    counts[:, _CYRILLIC] += counts[:, _UKRAINIAN]
    counts[:, _ARABIC] += counts[:, _PERSIAN]
    counts[:, [_NONE, _UKRAINIAN, _PERSIAN]] = 0

    is_japanese = 10 * counts[:, _KANA] > counts[:, _HAN] + counts[:, _KANA]
    counts[:, [_HAN, _KANA, _KOREAN]] *= _LETTERS_PER_HAN
    counts[:, _KANA] += np.where(is_japanese, counts[:, _HAN], 0)
    counts[:, _HAN] = np.where(is_japanese, 0, counts[:, _HAN])
    top = counts.argmax(axis=1)

    by_script = np.array([number.get(_SCRIPT_LANGUAGES.get(name, name), 0) for name in _SCRIPTS])
    result = by_script[top]
    is_latin = top == _LATIN
    result[is_latin] = _latin_languages(
        found.word_counts[is_latin], found.token_counts[is_latin], number
    )
    result[(top == _CYRILLIC) & ukrainian] = number["uk"]
    result[(top == _ARABIC) & persian] = number["fa"]
    codes = pa.DictionaryArray.from_arrays(pa.array(result, pa.int8()), pa.array(_CODES))
    return codes.cast(pa.string())


def _latin_languages(counts: Array, words: Array, number: dict[str, int]) -> Array:
    languages = list(_STOP_WORDS)
    best = counts.argmax(axis=1)
    best_count = np.take_along_axis(counts, best[:, None], axis=1)[:, 0]
    is_foreign = (best_count > counts[:, 0]) & (best_count >= 2)
    result = np.where(
        is_foreign, np.array([number[code] for code in languages])[best], number["en"]
    )
    unknown = (best_count == 0) & (words >= _MANY_WORDS)
    return np.where(unknown, number["other"], result)


@functools.cache
def vocabulary() -> Vocabulary:
    """What ``decide_language`` wants to have counted."""
    members: dict[int, int] = {}
    for language, text in enumerate(_STOP_WORDS.values()):
        for token in tokenize(as_string_array(text.split())).hashes.tolist():
            members[token] = members.get(token, 0) | 1 << language
    size = 1 << (4 * len(members)).bit_length()
    hashes, bits = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    for token, languages in members.items():
        slot = token % size
        while bits[slot]:
            slot = (slot + 1) % size
        hashes[slot], bits[slot] = token, languages
    return Vocabulary(_script_table(), len(_SCRIPTS), hashes, bits, len(_STOP_WORDS))


@functools.cache
def _script_table() -> Array:
    table = np.zeros(0x110000, np.uint8)
    for script, ranges in _RANGES.items():
        for low, high in ranges:
            table[low:high] = _SCRIPTS.index(script)
    table[[0xD7, 0xF7]] = 0
    for script_number, letters in _MARKED_LETTERS.items():
        for letter in letters:
            table[ord(letter)] = script_number
    return table
