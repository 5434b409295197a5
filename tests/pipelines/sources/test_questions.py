"""What a question asks, by type, scale and wording: golden wordings in English and Chinese."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.questions import (
    SCORED,
    Asked,
    QuestionOptions,
    describe_form,
    find_direction,
    score_choices,
    understand,
)

FIVE, TEN = (1, 5), (0, 10)


def scale(title: str, ends: tuple[int, int] = FIVE, low: str = "", high: str = "") -> Asked:
    return Asked("q", title, "scale", *ends, low, high)


def choice(title: str, *labels: str) -> Asked:
    return Asked("q", title, "choice", choices=tuple((label, label) for label in labels))


ENGLISH_SCALES = [
    ("How satisfied are you with our service?", FIVE, "csat"),
    ("How satisfied were you with the support you received?", TEN, "csat"),
    ("Overall, how happy are you with your purchase?", FIVE, "csat"),
    ("Please rate your experience", FIVE, "csat"),
    ("How would you rate the quality of our product?", TEN, "csat"),
    ("How was your stay?", FIVE, "csat"),
    ("How did we do?", FIVE, "csat"),
    ("Did the delivery meet your expectations?", FIVE, "csat"),
    ("How helpful was the agent?", FIVE, "csat"),
    ("How friendly was our staff?", FIVE, "csat"),
    ("Overall experience", TEN, "csat"),
    ("Rate the performance of the app", FIVE, "csat"),
    ("3. How pleased are you with the result?", FIVE, "csat"),
    ("<b>How satisfied</b> are you with {{product}}?", FIVE, "csat"),
    ("How satisfied are you with how easy it was to reach us?", FIVE, "csat"),
    ("How satisfied are you with our recommendations?", TEN, "csat"),
    ("How satisfied are you with the products we recommend to you?", TEN, "csat"),
    ("How likely are you to recommend us to a friend or colleague?", TEN, "nps"),
    ("How likely is it that you would recommend Acme to a friend?", TEN, "nps"),
    ("What is the likelihood that you will recommend our app to others?", TEN, "nps"),
    ("On a scale from 0 to 10, would you recommend us?", TEN, "nps"),
    ("Would you refer us to your colleagues?", TEN, "nps"),
    ("How willing are you to recommend this hotel to your family?", TEN, "nps"),
    ("How likely are you to recommend us to a friend?", FIVE, "other"),
    ("How likely are you to recommend us to a friend?", (1, 10), "other"),
    ("How likely are you to renew your contract?", TEN, "other"),
    ("How likely are you to buy again?", TEN, "other"),
    ("How often do you use our product?", FIVE, "other"),
    ("How important is price to you?", FIVE, "other"),
    ("How familiar are you with our brand?", FIVE, "other"),
    ("How many employees do you have?", TEN, "other"),
    ("Delivery", FIVE, "other"),
    ("How easy was it to solve your problem?", FIVE, "ces"),
    ("The company made it easy for me to handle my issue", (1, 7), "ces"),
    ("How much effort did you personally have to put forth?", FIVE, "ces"),
    ("How difficult was it to find what you needed?", FIVE, "ces"),
    ("How simple was the checkout?", FIVE, "ces"),
    ("Ease of use", FIVE, "ces"),
    ("It was a hassle to return the parcel", FIVE, "ces"),
    ("How convenient was our booking?", FIVE, "ces"),
    ("How smoothly did the installation go?", FIVE, "ces"),
]
ENGLISH_TEXTS = [
    ("What could we do better?", "open"),
    ("Why did you give this score?", "open"),
    ("Anything else you would like to tell us?", "open"),
    ("What do you like most about the company?", "open"),
    ("What does the name of our product mean to you?", "open"),
    ("Which email from us was helpful, and why?", "open"),
    ("Tell us about your last order", "open"),
    ("Comments", "open"),
    ("Please describe the problem with your phone", "open"),
    ("What is your e-mail address?", "email"),
    ("Email", "email"),
    ("Your work email (optional)", "email"),
    ("Please enter your email:", "email"),
    ("Phone number", "phone"),
    ("What's your mobile number?", "phone"),
    ("Your name", "name"),
    ("Full name (required)", "name"),
    ("First name", "name"),
    ("Company", "company"),
    ("What is the name?", "name"),
    ("Company name", "company"),
    ("Order number", "detail"),
    ("Your age", "detail"),
    ("What is your job title?", "detail"),
    ("Country", "detail"),
]
CHINESE_SCALES = [
    ("您对我们的服务满意吗？", FIVE, "csat"),
    ("您对本次客服的满意度", FIVE, "csat"),
    ("请为本次服务打分", FIVE, "csat"),
    ("请对客服人员的态度评分", FIVE, "csat"),
    ("您的整体体验如何？", TEN, "csat"),
    ("您觉得产品质量怎么样", FIVE, "csat"),
    ("您喜欢这款产品吗", FIVE, "csat"),
    ("本次购物符合您的期望吗", FIVE, "csat"),
    ("一、您对物流速度的评价", FIVE, "csat"),
    ("2、您对售后处理结果满意吗", FIVE, "csat"),
    ("客服专业程度", FIVE, "csat"),
    ("您对我们推荐的商品满意吗", TEN, "csat"),
    ("您對本次服務滿意嗎", FIVE, "csat"),
    ("您对操作简单程度满意吗", FIVE, "csat"),
    ("这次住宿的感受", FIVE, "csat"),
    ("总体来说您给我们打几分", TEN, "csat"),
    ("您有多大可能向朋友推荐我们？", TEN, "nps"),
    ("您会把我们推荐给同事吗？", TEN, "nps"),
    ("您愿意向他人推荐我们的产品吗", TEN, "nps"),
    ("推荐意愿", TEN, "nps"),
    ("您向亲友推荐本店的可能性", TEN, "nps"),
    ("您是否愿意将我们介绍给朋友", TEN, "nps"),
    ("您有多大可能將我們推薦給朋友", TEN, "nps"),
    ("0到10分，您会推荐我们吗", TEN, "nps"),
    ("您有多大可能向朋友推荐我们？", FIVE, "other"),
    ("您会续费吗", TEN, "other"),
    ("您再次购买的可能性", TEN, "other"),
    ("您多久使用一次", FIVE, "other"),
    ("价格对您有多重要", FIVE, "other"),
    ("您的年龄", TEN, "other"),
    ("您对本品牌的熟悉程度", FIVE, "other"),
    ("家里有多少人", TEN, "other"),
    ("物流", FIVE, "other"),
    ("解决问题容易吗？", FIVE, "ces"),
    ("联系客服方便吗", FIVE, "ces"),
    ("您觉得退货流程麻烦吗", FIVE, "ces"),
    ("解决该问题您费力吗", FIVE, "ces"),
    ("您花了多大力气才解决问题", FIVE, "ces"),
    ("安装的难易程度", FIVE, "ces"),
    ("找到所需信息有多困难", FIVE, "ces"),
    ("操作轻松吗", FIVE, "ces"),
    ("办理是否便捷", FIVE, "ces"),
]
CHINESE_TEXTS = [
    ("您有什么建议？", "open"),
    ("请说明原因", "open"),
    ("您的公司有什么需要改进的地方", "open"),
    ("请描述您手机的问题", "open"),
    ("您最喜欢哪一点", "open"),
    ("对我们的邮件通知有何意见", "open"),
    ("其他意见", "open"),
    ("请告诉我们您的建议", "open"),
    ("您的姓名", "name"),
    ("怎么称呼您？", "name"),
    ("请输入您的姓名（必填）", "name"),
    ("邮箱", "email"),
    ("您的电子邮箱", "email"),
    ("请填写您的邮箱地址", "email"),
    ("手机号码", "phone"),
    ("请留下您的联系电话", "phone"),
    ("联系方式", "phone"),
    ("公司名称", "company"),
    ("您所在的公司", "company"),
    ("订单号", "detail"),
    ("请提供您的订单编号", "detail"),
    ("收货地址", "detail"),
    ("您的职位", "detail"),
]


@pytest.mark.parametrize(("title", "ends", "kind"), [*ENGLISH_SCALES, *CHINESE_SCALES])
def test_the_kind_of_a_scale(title: str, ends: tuple[int, int], kind: str) -> None:
    assert understand(scale(title, ends)).kind == kind


@pytest.mark.parametrize(("title", "kind"), [*ENGLISH_TEXTS, *CHINESE_TEXTS])
def test_the_kind_of_a_text(title: str, kind: str) -> None:
    assert understand(Asked("q", title, "text")).kind == kind


@pytest.mark.parametrize(
    ("title", "low", "high", "is_better"),
    [
        ("How satisfied are you?", "Not at all", "Very satisfied", True),
        ("How satisfied are you?", "Very satisfied", "Very dissatisfied", False),
        ("How much effort was it?", "", "", False),
        ("How much effort was it?", "Very high effort", "Very low effort", True),
        ("How easy was it?", "Very easy", "Very difficult", False),
        ("How easy was it?", "", "", True),
        ("How difficult was it?", "", "", False),
        ("It was difficult to reach you", "Strongly disagree", "Strongly agree", False),
        ("It was easy to reach you", "Strongly disagree", "Strongly agree", True),
        ("It was easy to reach you", "Strongly agree", "Strongly disagree", False),
        ("您对服务满意吗", "非常不满意", "非常满意", True),
        ("您对服务满意吗", "非常满意", "非常不满意", False),
        ("解决问题费力吗", "", "", False),
        ("解决问题容易吗", "非常困难", "非常容易", True),
        ("解决问题容易吗", "非常容易", "非常困难", False),
    ],
)
def test_which_end_is_better(title: str, low: str, high: str, is_better: bool) -> None:
    assert find_direction(title.lower(), low, high) == is_better


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (
            ["Very satisfied", "Satisfied", "Neutral", "Dissatisfied", "Very dissatisfied"],
            [5, 4, 3, 2, 1],
        ),
        (["非常不满意", "不满意", "一般", "满意", "非常满意"], [1, 2, 3, 4, 5]),
        (
            ["Extremely satisfied", "Very satisfied", "Somewhat satisfied", "Not so satisfied"],
            [4, 3, 2, 1],
        ),
        (
            ["Strongly disagree", "Disagree", "Neither agree nor disagree", "Agree"],
            [1, 2, 3, 4],
        ),
        (["非常同意", "同意", "中立", "不同意", "非常不同意"], [5, 4, 3, 2, 1]),
        (["Excellent", "Very good", "Good", "Fair", "Poor"], [5, 4, 3, 2, 1]),
        (["很好", "好", "一般", "差", "很差"], [5, 4, 3, 2, 1]),
        (["Very easy", "Easy", "Difficult", "Very difficult"], [4, 3, 2, 1]),
        (["很容易", "比较容易", "一般", "比较困难", "非常困难"], [5, 4, 3, 2, 1]),
        (["Yes", "No"], [1, 0]),
        (["是", "否"], [1, 0]),
        (["有", "没有"], [1, 0]),
        (["1 - very bad", "2", "3", "4", "5 - very good"], [1, 2, 3, 4, 5]),
        (["Not at all likely - 0", "1", "Extremely likely - 2"], [0, 1, 2]),
        (["5分", "4分", "3分", "2分", "1分"], [5, 4, 3, 2, 1]),
        (["★", "★★", "★★★"], [1, 2, 3]),
        (["Satisfied", "Neutral", "Dissatisfied", "N/A"], [3, 2, 1]),
        (["满意", "不满意", "未使用过"], [1, 0]),
        (["Phone", "Chat", "Mail"], None),
        (["1-10", "11-50", "51-200"], None),
        (["10", "50", "100"], None),
        (["北京", "上海", "广州"], None),
        (["18", "25", "40", "65"], None),
        (["Yes"], None),
    ],
)
def test_choices_are_ranked_by_their_labels(labels: list[str], scores: list[int] | None) -> None:
    found = score_choices([(label, label) for label in labels])
    assert (None if found is None else list(found[1].values())) == scores


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (choice("Support", "Very satisfied", "Satisfied", "Dissatisfied"), "csat"),
        (choice("退货流程", "很容易", "一般", "很困难"), "ces"),
        (choice("Was your problem solved?", "Yes", "No"), "other"),
        (choice("Are you satisfied?", "Yes", "No"), "csat"),
        (choice("Would you recommend us?", "Yes", "No"), "other"),
        (choice("How likely are you to recommend us?", *(str(n) for n in range(11))), "nps"),
        (choice("Where did you hear of us?", "Radio", "Friends"), "none"),
        (Asked("q", "Delivery", "stars", 1, 5), "csat"),
        (Asked("q", "Ask me", "scale", 0, 10, is_nps=True), "nps"),
        (Asked("q", "Your weight", "scale", 0, 500), "none"),
    ],
)
def test_choices_stars_and_types(asked: Asked, kind: str) -> None:
    assert understand(asked).kind == kind


def test_options_overrule() -> None:
    rule = QuestionOptions(kind="ces", scale=(1, 3), higher_is_better=False)
    meaning = understand(scale("How satisfied are you?"), rule)
    assert (meaning.kind, meaning.scale_min, meaning.scale_max) == ("ces", 1, 3)
    assert meaning.higher_is_better is False
    assert meaning.scores == {"1": 1.0, "2": 2.0, "3": 3.0}


def test_a_form_names_its_main_question_and_its_details() -> None:
    questions = [
        Asked("n", "How likely are you to recommend us?", "scale", 0, 10),
        Asked("c", "How satisfied are you?", "scale", 1, 5),
        Asked("w", "Why?", "text"),
        Asked("e", "Email", "text"),
    ]
    about, *rest = describe_form("F", questions, {})
    assert (about["rated_by"], about["rating_max"], about["email_by"]) == ("c", 5, "e")
    by_key = {flat["key"]: flat for flat in rest}
    assert by_key["F/c"]["comment_by"] == "w"
    assert by_key["F/c/4"]["score"] == 4.0
    assert "comment_by" not in by_key["F/n"]


@given(
    st.sampled_from(["How satisfied are you?", "推荐给朋友吗", "Effort", "x", "How often?"]),
    st.integers(-1, 3),
    st.integers(-5, 120),
)
def test_every_scale_has_all_its_scores_or_none(title: str, low: int, width: int) -> None:
    meaning = understand(Asked("q", title, "scale", low, low + width))
    if meaning.kind in SCORED:
        assert (meaning.scale_min, meaning.scale_max) == (low, low + width)
        assert set(meaning.scores.values()) == set(range(low, low + width + 1))
    else:
        assert not 0 < width < 101


@given(st.permutations(["Very satisfied", "Satisfied", "Neutral", "Dissatisfied", "非常不满意"]))
def test_the_order_of_choices_does_not_matter(labels: list[str]) -> None:
    found = score_choices([(label, label) for label in labels])
    assert found is not None
    assert found[1]["Very satisfied"] == 5.0
    assert found[1]["非常不满意"] == 1.0
