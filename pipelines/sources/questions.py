"""What a survey's questions ask: satisfaction, recommendation, effort, words, or who one is.

A kind describes each question of a form as an ``Asked``; ``understand`` finds out, by type, scale
and wording in English and Chinese, what its answers mean. ``describe_form`` gives the flat records
that the lookups of a survey kind read. Options of a source may overrule any of it.

What cannot be told apart by rules: a scale whose title says nothing ("Delivery", 1–7) is ``other``;
a number that people type in is not a scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

Shape = Literal["scale", "stars", "choice", "text", "email", "phone", "name", "company", "none"]
SurveyKind = Literal["csat", "nps", "ces", "other"]
SCORED = ("csat", "nps", "ces", "other")
OPEN = "open"
DETAILS = ("email", "phone", "name", "company", "detail")
MOST_LEVELS = 101  # a scale with more steps is a number that people type in


class QuestionOptions(BaseModel):
    """What an installation says of one question; what is not said is found out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["csat", "nps", "ces", "other", "open", "ignore"] = Option(
        description="what the question asks for; ignore: leave it out"
    )
    scale: tuple[float, float] | None = Option(default=None, description="lowest, highest score")
    higher_is_better: bool | None = Option(
        default=None, description="whether a high score is a good one"
    )


Overrides = dict[str, QuestionOptions]


@dataclass(frozen=True)
class Asked:
    """One question as a form puts it. ``choices``: id (or label) and label, in their order."""

    id: str
    title: str
    shape: Shape
    low: float | None = None
    high: float | None = None
    low_label: str = ""
    high_label: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    is_nps: bool = False  # the vendor has a type of its own for it


@dataclass(frozen=True)
class Meaning:
    """What the answers to a question mean. ``scores``: by choice id, or by the number as text."""

    kind: str  # one of SCORED, OPEN, one of DETAILS, or none
    scale_min: float | None = None
    scale_max: float | None = None
    higher_is_better: bool = True
    scores: dict[str, float] = field(default_factory=dict)


NOTHING = Meaning("none")

RECOMMEND = re.compile(
    r"(likel|probab|willing|would you|will you|chance|scale).*\b(recommend|refer)\b"
    r"|\b(recommend|refer)\b.*\b(us|friend|colleague|famil|someone|others|anyone|people)"
    r"|推[荐薦](?!的|算法|系统|位|商品|产品|内容|结果|列表).{0,12}(可能|意愿|程度|几分|给|吗|[?？]|我们|本)"
    r"|(可能|愿意|意愿|会|愿不愿|想).{0,16}推[荐薦](?!的|算法|系统|位|结果|列表)"
    r"|(介绍|介紹|安利)(给|給)?.{0,6}(朋友|同事|亲友|家人|他人|别人)",
)
SATISFIED = re.compile(
    r"\b(dis|un)?satisf|\b(un)?happy\b|\bpleased\b|满意|滿意|满足|开心|高兴|失望|disappoint"
)
EASE = re.compile(
    r"\b(eas(y|e|ier|ily)|effort(less)?|difficult(y)?|hard|simple|hassle|convenien|straightforward"
    r"|smooth(ly)?)\b|\bconvenien|容易|轻松|輕鬆|费力|費力|费劲|方便|难易|便捷|便利|省力|力气|麻烦"
    r"|困难|困難|难度|努力|简单|順利|顺利|周折|曲折"
)
RATE = re.compile(
    r"\brat(e|ing|ed)\b|\bhow (was|is|were|are|did|do|does|would|good|well|helpful|friendly)\b"
    r"|\b(experience|quality|enjoy|expectations?|helpful|performance|overall|score|grade)\b"
    r"|评价|評價|评分|評分|打分|打几分|体验|體驗|态度|态度|质量|品質|喜欢|喜歡|感受|表现|如何|怎么样"
    r"|怎麼樣|总体|整体|好用|期望|期待|印象|专业"
)
# Words that make a scale something else, whatever else is said.
OTHER_SCALE = re.compile(
    r"\bhow (often|many|much (time|money)|long|old|important|frequent\w*|soon|familiar|interested"
    r"|confident)\b|\bimportan(t|ce)\b|\bfrequen|\bfamiliar|\b(renew|buy again|purchase again"
    r"|repurchase|come back)\b|\b(likely|would you|will you)\b.*\breturn\b"
    r"|多久|多少|几次|频率|頻率|重要|年龄|年齡"
    r"|熟悉|了解程度|感兴趣|兴趣|再次购买|续费|续约|复购|回购|回訪"
)
WORSE_WHEN_MORE = re.compile(
    r"\bhow (difficult|hard|unhappy|dissatisfied|unsatisfied|frustrat\w+|much effort|much hassle)"
    r"|\beffort\b(?!less)|\b(was|is|were) (too |very |so )?(difficult|hard|a hassle)\b"
    r"|费力|費力|费劲|多难|麻烦|困难|困難|难度|多大力气|力气|多少努力|努力|周折|曲折|不满意程度|多不满"
    r"|dissatisf|unsatisf"
)

DETAIL_PATTERNS = {
    "email": r"e-?mail|邮箱|電郵|电子邮件|郵箱|邮件地址|电邮",
    "phone": r"phone|mobile|telephone|\btel\b|电话|電話|手机|手機|联系方式|聯絡方式|whatsapp|wechat"
    r"|微信号?",
    "company": r"(company|organi[sz]ation|employer|business)( name)?"
    r"|(公司|单位|機構|机构)(名称|名字)?",
    "name": r"name|姓名|名字|称呼|稱呼|尊姓",
    "detail": r"order( number| no\.?| id)?|ticket( number| id)?|case( number| id)?|address|city"
    r"|country|region|state|zip( code)?|postal code|postcode|age|birth(day|date)|date of birth"
    r"|job title|role|position|department|account( number| id)?|customer (number|id)|user ?id"
    r"|username|website|url|订单号?|單號|单号|订单编号|工单号?|地址|城市|国家|地区|省份|邮编|年龄|生日"
    r"|出生日期|职位|职务|部门|账号|帐号|客户编号|会员号|用户名|网址|型号|序列号|serial number",
}
ASKS_FOR = (
    r"(please )?(enter |provide |leave |share |give us |tell us |fill in |type )?"
    r"(what('s| is| are)? )?(your |the |a |an )?(full |first |last |given |family |contact |work "
    r"|business |best |mobile |daytime |company('s)? |product |shipping |delivery |billing )*"
)
ASKS_FOR_ZH = (
    r"(请|請|麻烦)?(您|你)?(输入|輸入|填写|填寫|留下|提供|告诉我们|写下)?(您|你|贵)?的?"
    r"(真实|常用|联系|聯絡|工作|所在|收货|产品|电子|所属|购买|相关|的)*"
)
DETAIL_RULES = {
    name: re.compile(
        rf"^(?:{ASKS_FOR}(?:{pattern})( address| number| id| code)?s?"
        rf"|{ASKS_FOR_ZH}(?:{pattern})(是什么|是多少|号码?|地址|编号|是)?)"
        r"\W*(\(?(optional|required|选填|必填|可选)\)?)?\W*$"
    )
    for name, pattern in DETAIL_PATTERNS.items()
}
HOW_TO_CALL = re.compile(r"(怎么|如何|怎样)称呼")

# Labels. Weights only have to be in order: choices are ranked by them.
NO_ANSWER = re.compile(
    r"^(n/?a|not applicable|no (opinion|answer)|don'?t know|do not know|not sure|prefer not.*|none"
    r"|other|不适用|不適用|不知道|不清楚|未使用过?|没用过|没有使用过?|无法评价|不便回答|其他|其它|以上都不是)\W*$"
)
NEUTRAL = re.compile(
    r"neither|neutral|^(so[- ]so|ok(ay)?|average|fair|moderate(ly)?|acceptable|undecided)\W*$"
    r"|^(不好不坏|一般般?|中立|普通|还行|还可以|尚可|中等|说不清|不确定|无所谓|马马虎虎|及格)\W*$|既不.*也不|不.{1,3}也不"
)
FAMILIES: tuple[tuple[str, str, str], ...] = (
    # family, words that are better, words that are worse
    (
        "satisfaction",
        r"satisf|happy|pleased|delighted|满意|滿意|开心|高兴",
        r"dissatisf|unsatisf|unhappy|displeased|disappoint|不满|不滿|失望|难过",
    ),
    (
        "ease",
        r"eas(y|ier|ily)|effortless|simple|low effort|little effort|convenient|容易|轻松|輕鬆|简单"
        r"|方便|省力|便捷|顺利",
        r"difficult|hard|high effort|great effort|a lot of effort|inconvenient|困难|困難|费力|费劲"
        r"|麻烦|复杂|不方便|不容易|难",
    ),
    ("agreement", r"agree|同意|赞同|认同|符合", r"disagree|不同意|不赞同|反对|不认同|不符合"),
    (
        "likelihood",
        r"likely|probabl|definitely|可能|愿意|一定会",
        r"unlikely|不可能|不愿意|一定不会",
    ),
    (
        "quality",
        r"excellent|outstanding|perfect|great|good|amazing|fantastic|wonderful|love|better|helpful"
        r"|优秀|很棒|极好|好|棒|优|喜欢|超出预期|exceed",
        r"poor|bad|terrible|awful|horrible|worst|worse|hate|unhelpful|差|糟|不好|劣|讨厌|低于预期"
        r"|below|fell short",
    ),
    (
        "yes_no",
        r"^(yes|yeah|yep|是|是的|有|会|对|能|可以|已解决)\b",
        r"^(no|nope|否|不是|没有|不会|不|没|不能|未解决)\b",
    ),
)
STRONGEST = re.compile(
    r"extremely|completely|totally|absolutely|exceptional|definitely|excellent|outstanding|perfect"
    r"|amazing|fantastic|terrible|awful|horrible|worst|not at all|极其|极为|极|完全|绝对|一定|特别"
    r"|优秀|一点(都|也)?不|糟糕透"
)
STRONG = re.compile(
    r"\bvery|strongly|really|highly|great|love|hate|非常|十分|很|相当|强烈|超出|exceed"
)
WEAK = re.compile(
    r"somewhat|slightly|fairly|a (little|bit)|rather|moderately|mostly|partly|quite|比较|較|较|有点"
    r"|有些|稍|略|基本|还算|不太|不大|不怎么|not (so|very|too|really|that)"
)
NEGATED = re.compile(
    r"\bnot\b|\bisn'?t\b|^un(?=likely)|不太|不大|不怎么|一点(都|也)?不|不是很|并不"
)
LEADING_NUMBER = re.compile(r"^\W*(\d{1,3})(?!\d|[.,]\d|\s*[-–~至到]\s*\d)(?!.*\d)")
TRAILING_NUMBER = re.compile(r"^\D*[-–—:(（]\s*(\d{1,3})\s*[)）]?\s*$")
STARS = re.compile(r"^\s*([★⭐✩☆🌟]️?)+\s*$")


def clean_title(title: str) -> str:
    """A title without marks-up and numbering, in lower case, for the rules."""
    text = re.sub(r"<[^>]+>|\{\{[^}]*\}\}|[*_]{1,2}", " ", title)
    text = re.sub(r"^\s*(q?\d{1,2}[.)、:：]|[一二三四五六七八九十]、)\s*", "", text.lower())
    return " ".join(text.replace("’", "'").split())


def weigh_label(label: str) -> tuple[str, float] | None:
    """(family, weight) of a choice's label: above 0 is better; None if it is not on a scale."""
    text = clean_title(label)
    if NEUTRAL.search(text):
        return "", 0.0
    for family, better, worse in FAMILIES:
        is_worse = bool(re.search(worse, text))
        if not is_worse and not re.search(better, text):
            continue
        strength = 3.0 if STRONGEST.search(text) else 2.0 if STRONG.search(text) else 1.5
        is_negated = bool(NEGATED.search(text)) and not is_worse
        if WEAK.search(text) and strength < 3:
            strength = 1.0
        return family, -strength if is_worse or is_negated else strength
    return None


def read_number(label: str) -> float | None:
    """The number at which a label begins or ends, or its stars; None if there is none."""
    if STARS.match(label):
        full = sum(label.count(star) for star in "★⭐🌟")
        return float(full) if full else None
    found = LEADING_NUMBER.match(label) or TRAILING_NUMBER.match(label)
    return float(found.group(1)) if found else None


def score_choices(choices: Sequence[tuple[str, str]]) -> tuple[str, dict[str, float]] | None:
    """(family of the labels, score by choice id); None if the choices are no scale.

    Choices that mean "no answer" have no score. Numbers count as they are; words are ranked, the
    best of n has n; of two choices the better has 1 and the worse 0.
    """
    answers = [(key, label) for key, label in choices if not NO_ANSWER.match(clean_title(label))]
    if len(answers) < 2:
        return None
    numbers = [read_number(label) for _, label in answers]
    known = [number for number in numbers if number is not None]
    if len(known) == len(answers) == len(set(known)) and max(known) - min(known) < MOST_LEVELS:
        if max(known) - min(known) + 1 > 2 * len(known):
            return None  # amounts, such as 10, 50, 100
        return "number", {key: n for (key, _), n in zip(answers, known, strict=True)}
    weighed = [weigh_label(label) for _, label in answers]
    found = [pair for pair in weighed if pair is not None]
    families = {family for family, _ in found if family}
    weights = [weight for _, weight in found]
    if len(found) != len(answers) or not families or len(set(weights)) < 2:
        return None
    family = next(name for name, *_ in FAMILIES if name in families)
    steps = list(pairwise(weights))
    if len(set(weights)) == len(weights):
        ranks = [1.0 + sorted(weights).index(weight) for weight in weights]
    elif all(a >= b for a, b in steps):
        ranks = [float(n) for n in range(len(weights), 0, -1)]
    elif all(a <= b for a, b in steps):
        ranks = [float(n) for n in range(1, len(weights) + 1)]
    else:
        return None
    if len(ranks) == 2:
        ranks = [rank - 1 for rank in ranks]
    return family, {key: rank for (key, _), rank in zip(answers, ranks, strict=True)}


def find_kind_by_words(title: str, *, is_0_to_10: bool) -> str | None:
    """csat, nps, ces or other by the wording of a scale's question; None if it says nothing."""
    if OTHER_SCALE.search(title):
        return "other"
    is_satisfied = bool(SATISFIED.search(title))
    if RECOMMEND.search(title) and not is_satisfied:
        return "nps" if is_0_to_10 else "other"
    if is_satisfied:
        return "csat"
    if EASE.search(title):
        return "ces"
    return "csat" if RATE.search(title) else None


def find_direction(title: str, low_label: str, high_label: str) -> bool:
    """Whether a higher number is better: by the labels of the ends, else by the wording."""
    low, high = weigh_label(low_label), weigh_label(high_label)
    sign = (high[1] if high else 0.0) - (low[1] if low else 0.0)
    family = (high or low or ("", 0.0))[0]
    if sign and family not in ("agreement", "likelihood", "yes_no"):
        return sign > 0
    is_upright = not (sign < 0)
    return is_upright != bool(WORSE_WHEN_MORE.search(title))


def understand(asked: Asked, override: QuestionOptions | None = None) -> Meaning:
    """What the answers to a question mean."""
    meaning = _understand(asked)
    if override is None:
        return meaning
    if override.kind == "ignore":
        return NOTHING
    if override.kind == OPEN:
        return Meaning(OPEN)
    low, high = override.scale or (meaning.scale_min, meaning.scale_max)
    is_better = override.higher_is_better
    scores = meaning.scores
    if not scores and low is not None and high is not None:
        numbers = {key: read_number(label) for key, label in asked.choices}
        scores = {key: n for key, n in numbers.items() if n is not None} or _levels(low, high)
    return Meaning(
        override.kind,
        low,
        high,
        meaning.higher_is_better if is_better is None else is_better,
        {key: n for key, n in scores.items() if low is None or high is None or low <= n <= high},
    )


def _levels(low: float, high: float) -> dict[str, float]:
    return {str(n): float(n) for n in range(int(low), int(high) + 1)}


def _understand(asked: Asked) -> Meaning:
    title = clean_title(asked.title)
    if asked.shape in DETAILS:
        return Meaning(asked.shape)
    if asked.shape == "text":
        if HOW_TO_CALL.search(title):
            return Meaning("name")
        found = (name for name, rule in DETAIL_RULES.items() if rule.match(title))
        return Meaning(next(found, OPEN))
    if asked.shape in ("scale", "stars"):
        return _understand_scale(asked, title)
    if asked.shape == "choice":
        return _understand_choices(asked, title)
    return NOTHING


def _understand_scale(asked: Asked, title: str) -> Meaning:
    low, high = asked.low, asked.high
    if low is None or high is None or not low < high < low + MOST_LEVELS:
        return NOTHING
    kind = find_kind_by_words(title, is_0_to_10=(low, high) == (0, 10))
    if asked.is_nps:
        kind = "nps"
    if kind is None:
        labels = weigh_label(asked.high_label) or weigh_label(asked.low_label)
        family = labels[0] if labels else ""
        kind = {"satisfaction": "csat", "quality": "csat", "ease": "ces"}.get(family)
    if kind is None:
        kind = "csat" if asked.shape == "stars" else "other"
    is_better = kind == "nps" or find_direction(title, asked.low_label, asked.high_label)
    return Meaning(kind, low, high, is_better, _levels(low, high))


def _understand_choices(asked: Asked, title: str) -> Meaning:
    scored = score_choices(asked.choices)
    if scored is None:
        return NOTHING
    family, scores = scored
    low, high = min(scores.values()), max(scores.values())
    kind = find_kind_by_words(title, is_0_to_10=family == "number" and (low, high) == (0, 10))
    if kind is None or (kind == "csat" and family in ("ease", "likelihood")):
        by_family = {"satisfaction": "csat", "quality": "csat", "ease": "ces"}
        kind = by_family.get(family, "other")
    if kind == "ces" and family == "satisfaction":
        kind = "csat"
    if family == "yes_no" and not SATISFIED.search(title):
        kind = "other"
    is_better = True
    if family in ("number", "agreement", "yes_no"):
        first, last = asked.choices[0][1], asked.choices[-1][1]
        ends = ("", "")
        if family == "number":
            ascending = scores.get(asked.choices[0][0], low) <= scores.get(asked.choices[-1][0], 0)
            ends = (first, last) if ascending else (last, first)
        is_better = kind == "nps" or find_direction(title, *(_words(end) for end in ends))
    return Meaning(kind, low, high, is_better, scores)


def _words(label: str) -> str:
    """A label such as ``1 - very hard`` without its number."""
    return re.sub(r"^\W*\d+\W*|\W*\d+\W*$", "", label)


def find_override(overrides: Overrides, asked: Asked) -> QuestionOptions | None:
    """What the options say of a question, by its id or its title (case does not matter)."""
    if asked.id in overrides:
        return overrides[asked.id]
    titles = {" ".join(key.lower().split()): value for key, value in overrides.items()}
    return titles.get(" ".join(asked.title.lower().split()))


def describe_form(
    form: str,
    questions: Sequence[Asked],
    overrides: Overrides,
    named: dict[str, str | None] | None = None,
) -> Iterator[dict[str, Any]]:
    """The flat records that lookups read, of one form.

    - ``key`` = form/question: ``question`` (its id), ``title``, ``kind``; of scored ones ``survey``
      (the kind again), ``scale_min``, ``scale_max``, ``higher_is_better`` and ``comment_by``, the
      open question that follows them.
    - ``key`` = form/question/answer of a scored question: ``score``.
    - ``key`` = form: ``rated_by``, the question whose score stands for the whole response, with
      ``rating_min`` and ``rating_max``; ``email_by``, ``name_by``, ``phone_by`` and ``company_by``.
    """
    meant = [(asked, understand(asked, find_override(overrides, asked))) for asked in questions]
    about: dict[str, Any] = {"key": form}
    for rank in ("csat", "nps"):
        main = [pair for pair in meant if pair[1].kind == rank and pair[1].higher_is_better]
        if main and "rated_by" not in about:
            asked, meaning = main[0]
            about["rated_by"] = asked.id
            about["rating_min"], about["rating_max"] = meaning.scale_min, meaning.scale_max
    for name in ("email", "name", "phone", "company"):
        found = [asked.id for asked, meaning in meant if meaning.kind == name]
        about[f"{name}_by"] = found[0] if found else None
    for name, wanted in (named or {}).items():
        about[name] = next((a.id for a in questions if wanted in (a.id, a.title)), None)
    yield about
    for place, (asked, meaning) in enumerate(meant):
        flat: dict[str, Any] = {"key": f"{form}/{asked.id}", "question": asked.id}
        flat |= {"title": asked.title, "kind": meaning.kind}
        if meaning.kind in SCORED:
            flat["survey"] = meaning.kind
            flat["scale_min"], flat["scale_max"] = meaning.scale_min, meaning.scale_max
            flat["higher_is_better"] = meaning.higher_is_better
            following = meant[place + 1][:2] if place + 1 < len(meant) else None
            if following and following[1].kind == OPEN:
                flat["comment_by"] = following[0].id
        yield flat
        for answer, score in meaning.scores.items() if meaning.kind in SCORED else ():
            yield {"key": f"{form}/{asked.id}/{answer}", "score": score}
