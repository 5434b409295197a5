"""Ratings, dates and languages as pages write them: text in, typed values out."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

# Country codes that pages write where a language code belongs.
COUNTRY_FOR_LANGUAGE = {
    "se": "sv",
    "jp": "ja",
    "cn": "zh",
    "tw": "zh",
    "kr": "ko",
    "cz": "cs",
    "dk": "da",
    "gr": "el",
    "ua": "uk",
}
DATE_LANGUAGES = (
    "en", "zh", "de", "es", "fr", "sv", "ja", "ru", "it", "pt", "nl", "pl", "da", "nb", "fi",
    "cs", "tr", "ko", "uk", "el", "hu", "ro", "vi", "id",
)  # fmt: skip
FULL_STARS = "★⭐🌟✭✮"
EMPTY_STARS = "☆✩"
NUMBER = r"(\d+(?:[.,]\d+)?)"
OF = r"(?:/|out of|of|von|sur|de|av|af|su|van|из|\bz\b|分の|分中)"
NUMBER_WORDS = {
    "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0,
    "一星": 1.0, "二星": 2.0, "两星": 2.0, "三星": 3.0, "四星": 4.0, "五星": 5.0,
    "很差": 1.0, "较差": 2.0, "还行": 3.0, "推荐": 4.0, "力荐": 5.0,
}  # fmt: skip
SCHEMA_BEST, SCHEMA_WORST = 5.0, 1.0  # schema.org: assumed when a Rating leaves them out


@dataclass(frozen=True)
class Rating:
    """A rating on its scale, higher is better; value is None if it cannot be trusted (notes)."""

    value: float | None
    minimum: float | None
    maximum: float | None
    notes: tuple[str, ...] = ()


def parse_number(value: Any) -> float | None:
    """The first number in value ('4,5' is 4.5), or None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if isfinite(value) else None
    match = re.search(r"-?" + NUMBER, unicodedata.normalize("NFKC", str(value)))
    return float(match[0].replace(",", ".")) if match else None


def count_stars(text: str) -> tuple[float, float] | None:
    """(stars, of how many) of text such as ★★★★☆, or None."""
    full = sum(text.count(star) for star in FULL_STARS)
    empty = sum(text.count(star) for star in EMPTY_STARS)
    if not full + empty:
        return None
    half = 0.5 if "½" in text or "⯨" in text or "⯪" in text else 0.0
    return full + half, float(full + empty) if empty and not half else max(5.0, full + half)


def read_rating_text(text: str) -> tuple[float, float | None, float | None] | None:
    """(value, maximum if the text says it, minimum if the text says it), or None."""
    stars = count_stars(text)
    if stars:
        return stars[0], stars[1], None
    plain = unicodedata.normalize("NFKC", text).strip().lower()
    if match := re.search(
        rf"{NUMBER}\s*(?:つ星のうち|点満点中|段階中|点中|分制)\D{{0,3}}{NUMBER}", plain
    ):
        return float(match[2].replace(",", ".")), float(match[1].replace(",", ".")), None
    if match := re.search(rf"{NUMBER}\s*(?:★|stars?|sterne[n]?|分)?\s*{OF}\s*{NUMBER}", plain):
        return float(match[1].replace(",", ".")), float(match[2].replace(",", ".")), None
    if match := re.search(rf"{NUMBER}\s*%", plain):
        return float(match[1].replace(",", ".")), 100.0, 0.0
    if match := re.search(r"(?:stars?|rating|rate|score)[-_]?(\d)(?:[-_.]?([05]))?(?!\d)", plain):
        return float(match[1]) + (0.5 if match[2] == "5" else 0.0), 5.0, None
    if match := re.match(rf"^[^\d]{{0,30}}{NUMBER}(?!\d)", plain):
        return float(match[1].replace(",", ".")), None, None
    for word, value in NUMBER_WORDS.items():
        if re.search(rf"\b{word}\b" if word.isascii() else word, plain):
            return value, 5.0, None
    return None


def parse_rating(
    value: Any, best: Any = None, worst: Any = None, default_best: float | None = None
) -> Rating | None:
    """A rating and its scale; None if value holds no rating at all.

    Without bestRating the scale is default_best (what the page says elsewhere), else 5, as
    schema.org has it; a value above that is put on a scale of 10 or 100 and noted. Without
    worstRating the scale starts at 1, for percentages at 0. A scale whose best is its lowest number
    (school marks) is turned round and noted.
    """
    if isinstance(value, int | float):
        number = parse_number(value)
        found: tuple[float, float | None, float | None] | None = (
            None if number is None else (number, None, None)
        )
    else:
        found = None if value is None else read_rating_text(str(value))
    if found is None:
        return None
    number, said_maximum, said_minimum = found
    maximum, minimum = parse_number(best), parse_number(worst)
    if said_maximum is not None:
        maximum, minimum = said_maximum, said_minimum if minimum is None else minimum
    notes: tuple[str, ...] = ()
    if maximum is not None and minimum is not None and maximum < minimum:
        number, maximum, minimum = maximum + minimum - number, minimum, maximum
        notes = ("rating_scale_reversed",)
    if maximum is None:
        maximum = default_best or SCHEMA_BEST
        if number > maximum:
            maximum = next((top for top in (5.0, 10.0, 100.0) if number <= top), maximum)
            notes += ("rating_scale_guessed",)
    if minimum is None:
        # 0 on a scale of stars means "not rated"; half a star or 0 of 10 are ratings.
        is_low = 0 < number < SCHEMA_WORST or (number == 0 and maximum >= 10)
        minimum = 0.0 if is_low else SCHEMA_WORST
    if not minimum <= number <= maximum or minimum == maximum:
        return Rating(None, minimum, maximum, (*notes, "rating_outside_scale"))
    return Rating(number, minimum, maximum, notes)


def read_language(tag: str | None) -> str | None:
    """The language code of an HTML lang ('zh-CN' → 'zh', 'se' → 'sv'), or None."""
    if not tag:
        return None
    code = re.split(r"[-_]", tag.strip().lower())[0]
    code = COUNTRY_FOR_LANGUAGE.get(code, code)
    return code if re.fullmatch(r"[a-z]{2,3}", code) else None


def check_language(code: str | None, text: str) -> str | None:
    """The declared language; None, to be detected, if the script of text contradicts it."""
    letters = [char for char in text if char.isalpha()]
    if code is None or not letters:
        return code
    has_kana = any("\u3040" <= char <= "\u30ff" for char in letters)
    han = sum("\u4e00" <= char <= "\u9fff" for char in letters) / len(letters)
    cyrillic = sum("\u0400" <= char <= "\u04ff" for char in letters) / len(letters)
    if code == "zh":
        return None if han < 0.2 or has_kana else code
    if code == "ja":
        return code if has_kana or han > 0.2 else None
    if han > 0.5 or has_kana:
        return None
    if cyrillic > 0.5:
        return code if code in ("ru", "uk", "bg", "sr", "mk", "be", "kk") else None
    return code


NUMERIC_DATE = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(?!\d)")
YEAR_FIRST = re.compile(r"(?<!\d)((?:19|20)\d\d)[./-](\d{1,2})[./-](\d{1,2})(?!\d)")
HAS_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


def infer_date_order(texts: list[str], html_lang: str | None) -> tuple[str, bool]:
    """(order of numeric dates on a page: DMY or MDY, whether it is only assumed).

    A part above 12 on any date of the page decides; else the region of the page's language.
    """
    for text in texts:
        for match in NUMERIC_DATE.finditer(text):
            if int(match[1]) > 12:
                return "DMY", False
            if int(match[2]) > 12:
                return "MDY", False
    tag = (html_lang or "").lower().replace("_", "-")
    if tag in ("en", "", "en-ca"):
        return "MDY", True
    return ("MDY", False) if tag == "en-us" else ("DMY", False)


@dataclass(frozen=True)
class DateReader:
    """Reads the dates of one page. Local times are in time_zone; relative ones count from now."""

    now: datetime
    time_zone: str = "UTC"
    language: str | None = None
    order: str = "MDY"
    is_order_assumed: bool = False

    def read(self, text: str) -> tuple[datetime | None, str | None]:
        """(the instant in UTC or None, a note or None)."""
        found, note = self._read_local(unicodedata.normalize("NFKC", text).strip())
        if found is None:
            return None, "date_unreadable"
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(self.time_zone))
        try:
            found = found.astimezone(UTC).replace(microsecond=0)
        except OverflowError:
            return None, "date_unreadable"
        if found.year < 1990:
            return None, "date_unreadable"
        if found > self.now + timedelta(days=1):
            note = "date_in_future"
        return found, note

    def _read_local(self, text: str) -> tuple[datetime | None, str | None]:
        if not text or len(text) > 200:
            return None, None
        if re.fullmatch(r"\d{10}|\d{13}", text):
            return datetime.fromtimestamp(int(text[:10]), UTC), None
        if re.match(r"\d{4}-?\d\d-?\d\d", text):
            try:
                return datetime.fromisoformat(text), None
            except ValueError:
                pass  # close to ISO but not it: the readers below are more lenient
        if match := re.fullmatch(r"(\d{1,2})月(\d{1,2})日(?:\s*(\d{1,2}):(\d\d))?", text):
            return self._nearest_past(*(int(part or 0) for part in match.groups()))
        year_first = YEAR_FIRST.search(text)
        if year_first:
            year, month, day = year_first.groups()
            text = YEAR_FIRST.sub(f"{year}-{int(month):02}-{int(day):02}", text, count=1)
        numeric = None if year_first else NUMERIC_DATE.search(text)
        order = self.order if numeric else None
        found, note = self._parse(text, order, is_dated=bool(numeric or HAS_YEAR.search(text)))
        if found and numeric and self.is_order_assumed and numeric[1] != numeric[2]:
            note = note or "date_order_assumed"
        return found, note

    def _nearest_past(
        self, month: int, day: int, hour: int, minute: int
    ) -> tuple[datetime | None, str | None]:
        local = self.now.astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None)
        for year in range(local.year, local.year - 5, -1):
            try:
                found = datetime.combine(datetime(year, month, day), time(hour, minute))
            except ValueError:
                continue
            if found <= local:
                return found, "date_year_assumed"
        return None, None

    def _parse(
        self, text: str, order: str | None, *, is_dated: bool
    ) -> tuple[datetime | None, str | None]:
        own = (self.language,) if self.language in DATE_LANGUAGES else ()
        others = tuple(code for code in DATE_LANGUAGES if code not in own)
        base = self.now.astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None, second=0)
        for languages in filter(None, (own, others)):
            if is_dated:
                found, period = _parse_date(text, languages, order, base, ("month", "year"))
                if found is None and len(text) > 12:
                    found, period = _find_date(text, languages, order, base), "day"
                if found:
                    return found, "date_day_assumed" if period == "month" else None
                continue
            found, _ = _parse_date(text, languages, order, base, ())
            if found is None:
                continue
            # A phrase such as "2 days ago" moves with the clock; a date without a year does not.
            moved, _ = _parse_date(text, languages, order, base - timedelta(days=37), ())
            if moved and timedelta(days=34) <= found - moved <= timedelta(days=40):
                return found, "date_relative"
            found, _ = _parse_date(text, languages, order, base, ("day", "month"))
            if found and languages == own:
                return found, "date_year_assumed"
        return None, None


@lru_cache(maxsize=64)
def _date_parser(
    languages: tuple[str, ...], order: str | None, base: datetime, parts: tuple[str, ...]
) -> Any:
    from dateparser.date import DateDataParser

    settings: dict[str, Any] = {
        "RELATIVE_BASE": base,
        "PREFER_DATES_FROM": "past",
        "PREFER_DAY_OF_MONTH": "first",
        "RETURN_AS_TIMEZONE_AWARE": False,
        "REQUIRE_PARTS": list(parts),
    }
    if order:
        settings["DATE_ORDER"] = order
    return DateDataParser(languages=list(languages), settings=settings)


def _parse_date(
    text: str,
    languages: tuple[str, ...],
    order: str | None,
    base: datetime,
    parts: tuple[str, ...],
) -> tuple[datetime | None, str]:
    """(the local or zoned time or None, its period)."""
    data = _date_parser(languages, order, base, parts).get_date_data(text)
    return data.date_obj, data.period


def _find_date(
    text: str, languages: tuple[str, ...], order: str | None, base: datetime
) -> datetime | None:
    """A date with its year inside a sentence such as 'Reviewed in Canada on March 5, 2024'."""
    words = text.split()
    for begin in range(1, len(words)):
        rest = " ".join(words[begin:])
        if not (HAS_YEAR.search(rest) or NUMERIC_DATE.search(rest)):
            return None
        found, _ = _parse_date(rest, languages, order, base, ("day", "month", "year"))
        if found:
            return found
    return None
