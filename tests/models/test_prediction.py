"""Labels of planted sentences, odd inputs, keywords, summaries and explanations."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.prediction import LABEL_SCHEMA, SUMMARY_LENGTH, Predictor
from models.training import HEADS, Model, default_labels, softmax


def labels_of(predictor: Predictor, text: str) -> dict[str, object]:
    row: dict[str, object] = predictor.predict([text]).to_pylist()[0]
    return row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The parcel came broken and nobody replies to my mails", "complaint"),
        ("App crashes every time I open the camera", "complaint"),
        ("快递三天了还没到，客服也不理人", "complaint"),
        ("一打开就闪退，太垃圾了", "complaint"),
        ("差评", "complaint"),
        ("Where can I change my password?", "question"),
        ("Do you ship to Portugal?", "question"),
        ("请问什么时候有货", "question"),
        ("怎么修改绑定的手机号？", "question"),
        ("Please add a night mode", "suggestion"),
        ("It would be great if you could export to Excel", "suggestion"),
        ("希望能增加夜间模式", "suggestion"),
        ("建议你们多开几个窗口", "suggestion"),
        ("Great service, thank you so much!", "praise"),
        ("Love this app", "praise"),
        ("味道很好，送得也快", "praise"),
        ("非常满意，下次还来", "praise"),
        ("ok", "other"),
        ("Please change the delivery address to 4 Hill Road", "other"),
        ("我昨天下单的，单号一二三四", "other"),
        ("好的", "other"),
    ],
)
def test_feedback_types(predictor: Predictor, text: str, expected: str) -> None:
    assert labels_of(predictor, text)["feedback_type"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How much is the yearly plan?", "sales"),
        ("这款有货吗，多少钱", "sales"),
        ("The app freezes when I log in", "technical"),
        ("软件打不开，一直报错", "technical"),
        ("My refund has not arrived yet", "after_sales"),
        ("快递把包裹弄丢了", "after_sales"),
        ("hello", "other"),
        ("讲个笑话", "other"),
    ],
)
def test_needs(predictor: Predictor, text: str, expected: str) -> None:
    assert labels_of(predictor, text)["need"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Terrible, never again", "negative"),
        ("太失望了，再也不来了", "negative"),
        ("not good at all", "negative"),
        ("What time do you open?", "neutral"),
        ("几点开门", "neutral"),
        ("Lovely staff and a clean room", "positive"),
        ("房间干净，服务热情", "positive"),
    ],
)
def test_sentiments(predictor: Predictor, text: str, expected: str) -> None:
    assert labels_of(predictor, text)["sentiment"] == expected


@pytest.mark.parametrize(
    ("text", "priority", "reason"),
    [
        ("The charger you sold me caught fire last night", "urgent", "safety"),
        ("充电宝充电时冒烟起火了，太危险了", "urgent", "safety"),
        ("My account was hacked and my points are gone", "urgent", "security"),
        ("我的账号被盗了，钱都没了", "urgent", "security"),
        ("This is fraud, I never authorized this payment", "urgent", "fraud"),
        ("You will hear from my lawyer about this broken bed", "urgent", "legal_threat"),
        ("再不解决我就打12315投诉", "urgent", "legal_threat"),
        ("The system is broken, fix it immediately", "urgent", "explicit_now"),
        ("You charged me twice and still no refund", "high", "money_lost"),
        ("重复扣款，钱不退", "high", "money_lost"),
        ("I cannot log in, the whole site is down", "high", "outage"),
        ("This is the third time I write and nobody answers", "high", "repeated_contact"),
        ("打了三次电话都没人处理", "high", "repeated_contact"),
        ("Awful. Cancel my subscription, I am switching to a competitor", "high", "churn_threat"),
        ("垃圾软件，已卸载", "high", "churn_threat"),
    ],
)
def test_urgency_has_its_reason(
    predictor: Predictor, text: str, priority: str, reason: str
) -> None:
    row = labels_of(predictor, text)
    assert row["priority"] == priority
    assert reason in row["priority_reasons"]  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "Is there a police station near the hotel?",
        "Great service, I got a refund immediately, thank you!",
        "马上就收到货了，非常满意",
        "How much is the safety kit?",
    ],
)
def test_words_of_urgency_alone_are_not_urgent(predictor: Predictor, text: str) -> None:
    row = labels_of(predictor, text)
    assert row["priority"] in ("normal", "low")
    assert row["priority_reasons"] == []


def test_every_label_can_be_reached(predictor: Predictor) -> None:
    labels = predictor.predict(default_labels()["text"].tolist())
    for head, classes in HEADS.items():
        assert set(labels[head].unique().to_pylist()) == set(classes)


def test_schema_and_scores(predictor: Predictor) -> None:
    labels = predictor.predict(default_labels()["text"].tolist()[:500])
    assert labels.schema.equals(LABEL_SCHEMA)
    for head, classes in HEADS.items():
        scores = labels[f"{head}_score"].to_numpy()
        assert ((scores > 0) & (scores <= 1)).all()
        if head != "priority":
            assert (scores >= 1 / len(classes) - 1e-9).all()


ODD = [
    None,
    "",
    " \n\t ",
    "😀",
    "!!!???",
    "\u200b\u200c\u200d",
    "\x00\x01\x02\x7f",
    "שירות גרוע מאוד",
    "ab好不😀שלוםПривет",
    "a" * 1_000_000,
    "好" * 300_000,
    "word " * 200_000,
]


@pytest.mark.parametrize("text", ODD, ids=[repr(text)[:12] for text in ODD])
def test_odd_inputs_give_a_row(predictor: Predictor, text: str | None) -> None:
    labels = predictor.predict(pa.array(["fine", text, "好"], pa.string()))
    assert len(labels) == 3
    assert labels["feedback_type"].null_count == 0


@pytest.mark.parametrize("text", ["Очень плохо, верните деньги", "", "qqqq zzzz", "😀"])
def test_what_is_not_served_is_unsure(predictor: Predictor, text: str) -> None:
    assert labels_of(predictor, text)["is_unsure"] is True


def test_language_that_is_not_served_gets_a_guess(predictor: Predictor) -> None:
    row = predictor.predict(["terrible, refund me"], pa.array(["de"])).to_pylist()[0]
    assert (row["feedback_type"], row["feedback_type_score"]) == ("other", 0.2)
    assert (row["is_unsure"], row["priority"]) == (True, "normal")


def test_regional_codes_and_nulls_of_language(predictor: Predictor) -> None:
    languages = pa.array(["en-GB", "zh-CN", None])
    rows = predictor.predict(["Love it!", "非常满意", "非常满意"], languages).to_pylist()
    assert [row["feedback_type"] for row in rows] == ["praise"] * 3


def test_number_of_languages_must_fit(predictor: Predictor) -> None:
    with pytest.raises(ModelError, match="one for each"):
        predictor.predict(["a", "b"], pa.array(["en"]))


def test_empty_batch(predictor: Predictor) -> None:
    assert predictor.predict(pa.array([], pa.string())).schema.equals(LABEL_SCHEMA)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
        | st.text("refund 退款not很差!。. ", max_size=80),
        min_size=1,
        max_size=6,
    )
)
def test_a_row_does_not_depend_on_its_neighbours(predictor: Predictor, texts: list[str]) -> None:
    together = predictor.predict(texts).to_pylist()
    alone = [predictor.predict([text]).to_pylist()[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert set(one) == set(other)
        for name, value in one.items():
            same = pytest.approx(other[name]) if isinstance(value, float) else other[name]
            assert value == same, name


def test_keywords_are_words_of_the_text(predictor: Predictor) -> None:
    texts = default_labels()["text"].tolist()
    found = predictor.predict(texts)["keywords"].to_pylist()
    for text, keywords in zip(texts, found, strict=True):
        assert len(keywords) <= 5
        assert len(set(keywords)) == len(keywords)
        folded = text.lower().replace("’", "").replace("'", "")
        assert all(word in folded for word in keywords), (text, keywords)


def test_keywords_do_not_cross_a_gap(predictor: Predictor) -> None:
    assert "退款" not in labels_of(predictor, "退。款项")["keywords"]  # type: ignore[operator]


def test_summary_is_the_weightiest_sentence(predictor: Predictor) -> None:
    text = "We arrived on Monday. The room was filthy and the staff rude! It has 20 floors."
    assert labels_of(predictor, text)["summary"] == "The room was filthy and the staff rude!"
    assert labels_of(predictor, "周一到的。服务太差了，非常失望！一共三层。")["summary"] == (
        "服务太差了，非常失望！"
    )


@settings(max_examples=60, deadline=None)
@given(st.text("ab 好坏。.!\n😀" + "x" * 3, max_size=400))
def test_summary_is_short_and_from_the_text(predictor: Predictor, text: str) -> None:
    summary = str(labels_of(predictor, text)["summary"])
    assert len(summary) <= SUMMARY_LENGTH
    assert summary.removesuffix("…") in text
    assert "\n" not in summary


def test_explanation_names_the_deciding_words(predictor: Predictor) -> None:
    found = predictor.explain("The blender is broken, I want a refund")
    assert set(found) == set(HEADS)
    assert any("broken" in word for word, _ in found["sentiment"])
    assert all(weight > 0 for words in found.values() for _, weight in words)


def test_explanation_of_an_empty_text(predictor: Predictor) -> None:
    assert set(predictor.explain("")) == set(HEADS)


PIECES = st.sampled_from(
    [
        *("the app crashes", "not good", "but I love it", "refund", "my lawyer", "I WANT IT NOW"),
        *("闪退", "不好用", "味道很好", "客服", "请问", "但是", "退款", "我要投诉", "骗子"),
        *(".", " ", "\n", "。", "!", "？", "👍", "😡", "é", "привет", "\u200b", "aaaa", "1000"),
    ]
)
MIXED_TEXT = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=5))


@settings(max_examples=150, deadline=None)
@given(st.lists(MIXED_TEXT.map(" ".join) | MIXED_TEXT.map("".join), min_size=1, max_size=5))
def test_what_is_trained_is_what_is_predicted(
    model: Model, predictor: Predictor, texts: list[str]
) -> None:
    matrix = model.features().transform([*texts, texts[0] * 500])
    margins = matrix.astype(np.float64) @ model.weights + model.intercepts
    labels = predictor.predict([*texts, texts[0] * 500], pa.array(["en"] * (len(texts) + 1)))
    first = 0
    for head, classes in HEADS.items():
        expected = softmax(margins[:, first : first + len(classes)])
        first += len(classes)
        if head == "priority":  # rules come on top
            continue
        assert labels[f"{head}_score"].to_pylist() == pytest.approx(expected.max(axis=1), abs=1e-4)
        names = np.array(classes)[expected.argmax(axis=1)]
        clear = np.sort(expected, axis=1)[:, -2] < expected.max(axis=1) - 1e-4
        assert np.array(labels[head].to_pylist())[clear].tolist() == names[clear].tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(MIXED_TEXT.map("".join), min_size=2, max_size=6))
def test_a_text_is_labelled_alike_whatever_stands_beside_it(
    predictor: Predictor, texts: list[str]
) -> None:
    together = predictor.predict(texts).to_pylist()
    assert together == [predictor.predict([text]).to_pylist()[0] for text in texts]
