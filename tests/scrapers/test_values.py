"""Ratings and dates as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapers.values import (
    DateReader,
    check_language,
    infer_date_order,
    parse_number,
    parse_rating,
    read_language,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value", "low", "high"),
    [
        ("4,5", 4.5, 1, 5),
        (4.5, 4.5, 1, 5),
        ("8/10", 8, 1, 10),
        ("8 / 10", 8, 1, 10),
        ("0/10", 0, 0, 10),
        ("85/100", 85, 1, 100),
        ("80%", 80, 0, 100),
        ("width: 60%", 60, 0, 100),
        ("★★★★☆", 4, 1, 5),
        ("★★★", 3, 1, 5),
        ("⭐⭐⭐⭐", 4, 1, 5),
        ("★★★½", 3.5, 1, 5),
        ("4.5 out of 5 stars", 4.5, 1, 5),
        ("4 stars out of 5", 4, 1, 5),
        ("3 von 5 Sternen", 3, 1, 5),
        ("3 sur 5", 3, 1, 5),
        ("2 de 5", 2, 1, 5),
        ("4 av 5", 4, 1, 5),
        ("4 из 5", 4, 1, 5),
        ("5つ星のうち4.0", 4, 1, 5),
        ("评分：９分", 9, 1, 10),
        ("四星", 4, 1, 5),
        ("力荐", 5, 1, 5),
        ("allstar40 rating", 4, 1, 5),
        ("star-rating Three", 3, 1, 5),
        ("stars-4-5", 4.5, 1, 5),
        ("rating45", 4.5, 1, 5),
        ("rating-3", 3, 1, 5),
        ("Rated 4 stars", 4, 1, 5),
        (0.5, 0.5, 0, 5),
    ],
)
def test_rating_text(text: str | float, value: float, low: float, high: float) -> None:
    rating = parse_rating(text)
    assert rating
    assert (rating.value, rating.minimum, rating.maximum) == (value, low, high)


@pytest.mark.parametrize("text", ["", "no rating", None, "n/a", True])
def test_no_rating(text: str | bool | None) -> None:
    assert parse_rating(text) is None


@pytest.mark.parametrize(("value", "best", "worst"), [(0, 5, 1), (9, 5, 1), (-1, 5, 0), (3, 3, 3)])
def test_rating_outside_its_scale_is_not_used(value: float, best: float, worst: float) -> None:
    rating = parse_rating(value, best, worst)
    assert rating
    assert rating.value is None
    assert rating.notes == ("rating_outside_scale",)


@given(
    tenths=st.integers(10, 50),
    form=st.sampled_from(["{}", "{}/5", "{} out of 5", "{} von 5", "{} из 5", "Rating: {}"]),
    comma=st.booleans(),
)
def test_written_rating_is_read_back(tenths: int, form: str, comma: bool) -> None:
    written = form.format(str(tenths / 10).replace(".", "," if comma else "."))
    rating = parse_rating(written)
    assert rating
    assert (rating.value, rating.maximum) == (tenths / 10, 5.0)


@given(full=st.integers(0, 5))
def test_stars_are_counted(full: int) -> None:
    rating = parse_rating("★" * full + "☆" * (5 - full))
    assert rating
    assert rating.maximum == 5
    assert (rating.value or 0) == full


@given(value=st.text(max_size=40), best=st.text(max_size=6), worst=st.text(max_size=6))
def test_rating_never_leaves_its_scale(value: str, best: str, worst: str) -> None:
    rating = parse_rating(value, best, worst)
    if rating and rating.value is not None:
        assert rating.minimum is not None
        assert rating.maximum is not None
        assert rating.minimum <= rating.value <= rating.maximum


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_number_is_finite_or_none(value: float) -> None:
    number = parse_number(value)
    assert number is None or abs(number) < float("inf")


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("2024-03-05", "en", "2024-03-05T00:00:00+00:00"),
        ("2024-03-05T10:20:30Z", "en", "2024-03-05T10:20:30+00:00"),
        ("2024-03-05T10:20:30+0800", "zh", "2024-03-05T02:20:30+00:00"),
        ("1709633280", "en", "2024-03-05T10:08:00+00:00"),
        ("1709633280000", "en", "2024-03-05T10:08:00+00:00"),
        ("2024/3/5 14:22", "zh", "2024-03-05T14:22:00+00:00"),
        ("2024年3月5日", "zh", "2024-03-05T00:00:00+00:00"),
        ("2024年03月05日 下午 3:20", "zh", "2024-03-05T15:20:00+00:00"),
        ("3月5日", "zh", "2026-03-05T00:00:00+00:00"),
        ("12月5日", "ja", "2025-12-05T00:00:00+00:00"),
        ("３日前", "ja", "2026-11-17T12:00:00+00:00"),
        ("3天前", "zh", "2026-11-17T12:00:00+00:00"),
        ("5. März 2024", "de", "2024-03-05T00:00:00+00:00"),
        ("05.03.2024", "de", "2024-03-05T00:00:00+00:00"),
        ("vor 3 Tagen", "de", "2026-11-17T12:00:00+00:00"),
        ("5 de marzo de 2024", "es", "2024-03-05T00:00:00+00:00"),
        ("hace 2 semanas", "es", "2026-11-06T12:00:00+00:00"),
        ("5 mars 2024", "fr", "2024-03-05T00:00:00+00:00"),
        ("il y a 3 jours", "fr", "2026-11-17T12:00:00+00:00"),
        ("5 mars 2024", "sv", "2024-03-05T00:00:00+00:00"),
        ("för 3 dagar sedan", "sv", "2026-11-17T12:00:00+00:00"),
        ("5 марта 2024 г.", "ru", "2024-03-05T00:00:00+00:00"),
        ("3 дня назад", "ru", "2026-11-17T12:00:00+00:00"),
        ("March 5, 2024", "en", "2024-03-05T00:00:00+00:00"),
        ("Reviewed in Canada on March 5, 2024", "en", "2024-03-05T00:00:00+00:00"),
        ("Bewertet am 5. März 2024", "de", "2024-03-05T00:00:00+00:00"),
        ("Mar 2024", "en", "2024-03-01T00:00:00+00:00"),
        ("12 April", "en", "2026-04-12T00:00:00+00:00"),
        ("5. März 2024", "en", "2024-03-05T00:00:00+00:00"),
    ],
)
def test_date_text(text: str, language: str, expected: str) -> None:
    order = "DMY" if language == "de" else "MDY"
    found, _ = DateReader(NOW, "UTC", language, order).read(text)
    assert found
    assert found.isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "hello", "5", "May", "32.13.2024", "2024-02-31", "0001-01-01", "x" * 300]
)
def test_no_date(text: str) -> None:
    assert DateReader(NOW).read(text) == (None, "date_unreadable")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("2 days ago", "date_relative"),
        ("12 April", "date_year_assumed"),
        ("Mar 2024", "date_day_assumed"),
        ("2027-05-01", "date_in_future"),
        ("March 5, 2024", None),
    ],
)
def test_uncertain_date_is_noted(text: str, note: str | None) -> None:
    assert DateReader(NOW, language="en").read(text)[1] == note


def test_ambiguous_numbers_are_noted() -> None:
    reader = DateReader(NOW, language="en", order="MDY", is_order_assumed=True)
    assert reader.read("03/04/2024")[1] == "date_order_assumed"


def test_local_time_is_in_the_configured_zone() -> None:
    found, _ = DateReader(NOW, "Asia/Shanghai", "zh").read("2024-03-05 08:00")
    assert found == datetime(2024, 3, 5, 0, 0, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1995, 1, 1), max_value=datetime(2026, 11, 1)))
def test_iso_date_is_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert DateReader(NOW).read(moment.isoformat()) == (moment, None)


@settings(deadline=None, max_examples=40)
@given(st.dates(min_value=datetime(1995, 1, 1).date(), max_value=datetime(2026, 11, 1).date()))
def test_year_first_date_is_never_turned_round(day: date) -> None:
    found, _ = DateReader(NOW, language="de", order="DMY").read(f"{day.year}/{day.month}/{day.day}")
    assert found
    assert found.date() == day


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=30))
def test_any_text_gives_a_past_date_or_a_note(text: str) -> None:
    found, note = DateReader(NOW).read(text)
    assert note or (found and found <= NOW + timedelta(days=1))


@pytest.mark.parametrize(
    ("texts", "tag", "expected"),
    [
        (["03/04/2024"], "en", ("MDY", True)),
        (["03/04/2024"], "en-US", ("MDY", False)),
        (["03/04/2024"], "en-GB", ("DMY", False)),
        (["03/04/2024", "25/04/2024"], "en", ("DMY", False)),
        (["03/04/2024", "04/25/2024"], "en-GB", ("MDY", False)),
        ([], "de", ("DMY", False)),
    ],
)
def test_date_order(texts: list[str], tag: str, expected: tuple[str, bool]) -> None:
    assert infer_date_order(texts, tag) == expected


@pytest.mark.parametrize(
    ("tag", "code"),
    [("zh-cmn-Hans", "zh"), ("en_GB", "en"), ("se", "sv"), ("JP", "ja"), ("", None), ("?", None)],
)
def test_language_tag(tag: str, code: str | None) -> None:
    assert read_language(tag) == code


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("en", "很好用", None),
        ("zh", "works well", None),
        ("zh", "很好用", "zh"),
        ("ja", "すぐ壊れた", "ja"),
        ("zh", "すぐ壊れた", None),
        ("de", "Хороший чайник", None),
        ("ru", "Хороший чайник", "ru"),
        ("en", "👍", "en"),
    ],
)
def test_declared_language_must_fit_the_script(code: str, text: str, expected: str | None) -> None:
    assert check_language(code, text) == expected
