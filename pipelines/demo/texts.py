"""Texts as customers write them, put together from the phrase banks in ``phrases/``.

A bank is a text file of topics. A topic begins with ``@ scope type need priority name`` and holds
lines of one kind each: ``#`` subject, ``>`` the matter itself, ``+`` a detail, ``!`` what it did to
the writer, ``?`` what they want, ``*`` a whole short text. ``= type sentiment priority`` overrides
the header's labels. In a line, ``[a|b|]`` is a choice (they nest, the line itself is one) and
``{order}`` a fact of this very case. A scope is a tag of a product; ``any`` fits all.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import resources

from pipelines.demo import catalog
from pipelines.demo.catalog import Product

Node = str | list[list["Node"]]
KINDS = {"#": "subject", ">": "core", "+": "detail", "!": "effect", "?": "ask", "*": "short"}
FEEDBACK_TYPES = ("complaint", "question", "suggestion", "praise", "other")
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Label:
    """What a text is, as the one who wrote it would say."""

    feedback_type: str
    need: str
    sentiment: str
    priority: str


@dataclass
class Topic:
    """Phrases about one matter. A helper topic (greetings, replies) has its language as need."""

    scope: str
    kind: str
    label: Label
    name: str
    lines: dict[str, list[list[list[Node]]]] = field(default_factory=dict)

    @property
    def is_helper(self) -> bool:
        return self.label.need in catalog.LANGUAGES


@dataclass(frozen=True)
class Written:
    subject: str
    body: str
    label: Label
    topic: str


def parse_choice(text: str) -> list[list[Node]]:
    """ "a [b|c]|d" → [["a ", [["b"], ["c"]]], ["d"]]."""
    options: list[list[Node]] = [[]]
    stack: list[list[list[Node]]] = [options]
    literal = ""

    def flush() -> None:
        nonlocal literal
        if literal:
            stack[-1][-1].append(literal)
            literal = ""

    for sign in text:
        if sign == "[":
            flush()
            inner: list[list[Node]] = [[]]
            stack[-1][-1].append(inner)
            stack.append(inner)
        elif sign == "]" and len(stack) > 1:
            flush()
            stack.pop()
        elif sign == "|":
            flush()
            stack[-1].append([])
        else:
            literal += sign
    flush()
    if len(stack) > 1:
        raise ValueError(f"phrase bank: '[' is not closed in {text!r}")
    return options


SENTIMENT_OF = {"complaint": "negative", "praise": "positive"}


@cache
def load_bank(language: str) -> tuple[Topic, ...]:
    """The topics of a language's bank. ValueError names the line that cannot be read."""
    source = resources.files("pipelines.demo") / "phrases" / f"{language}.txt"
    topics: list[Topic] = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or (line.startswith("# ") and not topics):
            continue
        sign, rest = line[0], line[2:]
        if sign == "@":
            words = rest.split()
            if len(words) < 4:
                raise ValueError(f"phrases/{language}.txt:{number}: a topic needs four words")
            scope, kind, need, priority = words[:4]
            label = Label(kind, need, SENTIMENT_OF.get(kind, "neutral"), priority)
            topics.append(Topic(scope, kind, label, words[4] if len(words) > 4 else kind))
        elif sign == "=":
            kind, sentiment, priority = rest.split()
            topics[-1].label = Label(kind, topics[-1].label.need, sentiment, priority)
        elif sign in KINDS:
            topics[-1].lines.setdefault(KINDS[sign], []).append(parse_choice(rest.strip()))
        else:
            raise ValueError(f"phrases/{language}.txt:{number}: no such line sign {sign!r}")
    return tuple(topics)


class Facts:
    """The concrete facts of one case: the same slot gives the same fact, ``{n}`` a new one."""

    def __init__(
        self,
        rng: random.Random,
        language: str,
        product: Product,
        at: datetime,
        names: dict[str, str],
    ):
        self.rng, self.language, self.product, self.at = rng, language, product, at
        self.known = dict(names)
        self.days = rng.choice((3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 18, 21))

    def get(self, slot: str) -> str:
        if slot == "n":
            return str(self.rng.randint(2, 9))
        found = self.known.get(slot)
        if found is None:
            found = self.known[slot] = self.make(slot)
        return found

    def say_date(self, day: datetime) -> str:
        if self.language == "zh":
            form = self.rng.random()
            if form < 0.6:
                return f"{day.month}月{day.day}{'号' if form < 0.3 else '日'}"
            return f"{day.month}.{day.day}"
        month = day.strftime("%B")
        form = self.rng.random()
        if form < 0.35:
            return f"{day.day} {month}"
        if form < 0.65:
            return f"{month} {day.day}"
        if form < 0.85:
            return day.strftime("%A ") + f"{day.day}{ordinal_end(day.day)}"
        return f"{day.day} {month[:3]}"

    def say_amount(self, low: float, high: float) -> str:
        """An amount between low and high pounds, in the writer's money."""
        value = low * (high / low) ** self.rng.random()
        if self.language == "zh":
            value *= 7
            text = str(round(value)) if self.rng.random() < 0.6 else f"{value:.2f}"
            return self.rng.choice((f"{text}元", f"{text}块", f"¥{text}", f"{text}元"))
        sign = self.known.get("currency", "£")
        return f"{sign}{value:,.2f}" if self.rng.random() < 0.55 else f"{sign}{round(value):,}"

    def make(self, slot: str) -> str:
        rng, zh = self.rng, self.language == "zh"
        if slot == "order":
            return f"{rng.choice(('LT', 'LT', 'HB'))}{self.at:%y%m}{rng.randint(0, 999999):06d}"
        if slot == "date":
            return self.say_date(self.at - timedelta(days=self.days))
        if slot == "mid":
            return self.say_date(self.at - timedelta(days=max(1, self.days // 3)))
        if slot == "today":
            return self.say_date(self.at)
        if slot == "soon":
            return self.say_date(self.at + timedelta(days=rng.randint(3, 40)))
        if slot == "days":
            return str(self.days)
        if slot == "amount":
            return self.say_amount(*self.product.price)
        if slot == "small":
            return self.say_amount(2, 25)
        if slot == "product":
            return self.product.name(self.language)
        if slot == "product2":
            mine = self.product
            like = [p for p in catalog.PRODUCTS if p.tags == mine.tags and p != mine]
            if not like or "wear" in mine.tags:
                return "老款" if zh else "older model"
            return rng.choice(like).name(self.language)
        if slot == "city":
            return rng.choice(catalog.CITIES_ZH if zh else catalog.CITIES_EN)
        if slot == "time":
            hour, minute = rng.randint(7, 22), rng.choice((0, 0, 10, 15, 20, 30, 40, 45, 50))
            if zh:
                part = "上午" if hour < 12 else "下午" if hour < 18 else "晚上"
                shown = hour if hour <= 12 else hour - 12
                rest = "半" if minute == 30 else f"{minute}分" if minute else ""
                return f"{part}{shown}点{rest}"
            if rng.random() < 0.5:
                return f"{hour}:{minute:02d}"
            rest = f":{minute:02d}" if minute else ""
            return f"{(hour - 1) % 12 + 1}{rest} {'am' if hour < 12 else 'pm'}"
        if slot == "agent":
            pool = [a.name for a in catalog.AGENTS if ("zh" in a.languages) == zh]
            name = rng.choice(pool)
            return name if zh else name.split()[0]
        if slot == "ver":
            return f"{rng.choice((5, 6, 6, 7))}.{rng.randint(0, 9)}.{rng.randint(0, 5)}"
        if slot == "device":
            return rng.choice(catalog.DEVICES)
        if slot == "err":
            return f"{rng.choice(('E', 'E0', 'ERR-', 'F'))}{rng.randint(1, 58)}"
        if slot == "card4":
            return f"{rng.randint(0, 9999):04d}"
        if slot == "flight":
            return (
                f"HB{rng.randint(100, 998)}"
                if self.product.key != "railpass"
                else f"G{rng.randint(100, 1990)}"
            )
        if slot == "nth":
            return rng.choice(("second", "third", "fourth", "third"))
        if slot == "phone":
            if zh:
                return f"199{rng.randint(0, 9999):04d}{rng.randint(0, 9999):04d}"
            return rng.choice(
                (f"07700 900{rng.randint(0, 999):03d}", f"(555) 010-{rng.randint(0, 9999):04d}")
            )
        if slot == "email":
            return f"user{rng.randint(100, 9999)}@example.com"
        if slot == "name":
            return make_name(rng, self.language)
        if slot == "customer":
            return make_name(rng, self.language)
        if slot == "team":
            team = rng.choice(catalog.TEAMS)
            return team.zh if zh else team.name
        raise ValueError(
            f"phrase bank: no such fact {{{slot}}}; see Facts.make for those there are"
        )


def weigh_topic(topic: Topic, is_public: bool) -> float:
    if topic.label.feedback_type == "other":
        return 1.0 if (topic.scope == "idle") == is_public else 0.0
    if topic.label.priority == "urgent":
        return 0.07 if is_public else 0.45
    return 0.5 if topic.scope == "any" else 1.0


def shorten(text: str, limit: int = 48) -> str:
    """The beginning of a text up to its first stop, or as many whole words as fit."""
    first = re.split(r"[。?？!！:：]|\.(?!\d)", text)[0].strip() or text
    if len(first) <= limit:
        return first
    cut = first[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "…"


def ordinal_end(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def make_name(rng: random.Random, language: str) -> str:
    if language == "zh":
        return rng.choice(catalog.FAMILY_ZH) + rng.choice(catalog.GIVEN_ZH)
    return f"{rng.choice(catalog.GIVEN_EN)} {rng.choice(catalog.FAMILY_EN)}"


def _flatten(options: list[list[Node]], rng: random.Random, out: list[str]) -> None:
    option = options[int(rng.random() * len(options))] if len(options) > 1 else options[0]
    for node in option:
        if isinstance(node, str):
            out.append(node)
        else:
            _flatten(node, rng, out)


def render_line(options: list[list[Node]], rng: random.Random, facts: Facts) -> str:
    """One way of saying a line, with its facts filled in."""
    out: list[str] = []
    _flatten(options, rng, out)
    text = "".join(out)
    if "{" in text:
        text = SLOT.sub(lambda match: facts.get(match[1]), text)
    return re.sub(r" +(?=[ ,.])", "", text).strip()


@dataclass(frozen=True)
class Style:
    """How people write in a place: chances of each part, and of carelessness."""

    opening: float
    details: tuple[float, ...]  # chances of 0, 1, 2 … details
    effect: float
    ask: float
    closing: float
    short: float
    careless: float
    emoji: float
    context: float = 0.0
    paragraphs: bool = False


STYLES = {
    "email": Style(0.9, (0.1, 0.35, 0.35, 0.2), 0.55, 0.8, 0.8, 0.0, 0.06, 0.01, 0.3, True),
    "web": Style(0.5, (0.2, 0.4, 0.3, 0.1), 0.5, 0.7, 0.35, 0.0, 0.12, 0.03, 0.25),
    "chat": Style(0.35, (0.5, 0.4, 0.1), 0.3, 0.6, 0.05, 0.05, 0.35, 0.08, 0.12),
    "phone": Style(0.0, (0.2, 0.5, 0.3), 0.3, 0.7, 0.0, 0.0, 0.0, 0.0),
    "social": Style(0.1, (0.5, 0.4, 0.1), 0.7, 0.4, 0.0, 0.2, 0.3, 0.25, 0.1),
    "review": Style(0.0, (0.25, 0.4, 0.25, 0.1), 0.45, 0.06, 0.0, 0.3, 0.15, 0.1, 0.4),
    "app": Style(0.0, (0.55, 0.35, 0.1), 0.4, 0.35, 0.0, 0.42, 0.3, 0.15, 0.25),
    "survey": Style(0.0, (0.65, 0.3, 0.05), 0.35, 0.12, 0.0, 0.4, 0.15, 0.03, 0.2),
    "reply": Style(0.15, (1.0,), 0.1, 0.0, 0.15, 0.0, 0.2, 0.04),
}
EMOJI = {
    "positive": ("👍", "😊", "❤️", "🎉", "💯", "🌟", "😀"),
    "negative": ("😡", "😤", "🙄", "😞", "👎", "😠", "😭"),
    "neutral": ("🤔", "🙏", "😅"),
}
JOIN = {"en": " ", "zh": ""}
CALL_NOTE = {
    "en": ("Customer phoned. ", "Phone call {date}: ", "Inbound call, logged for the customer: "),
    "zh": ("客户来电反映：", "【电话记录】", "来电登记："),
}
HOMOPHONES = (
    ("的", "得"),
    ("在", "再"),
    ("已经", "以经"),
    ("帐", "账"),
    ("做", "作"),
    ("吗", "嘛"),
)


class Writer:
    """Writes texts of one language. The same rng state gives the same text."""

    def __init__(self, language: str, rng: random.Random):
        self.language, self.rng = language, rng
        self.topics = load_bank(language)
        self.by_name = {topic.name: topic for topic in self.topics}
        self._fitting: dict[tuple[str, str], list[Topic]] = {}
        self.extras = {t.kind: t for t in self.topics if t.is_helper}

    def find_topics(self, product: Product, kind: str, in_app: bool) -> list[Topic]:
        """Topics of a kind that can be about a product, or about the app."""
        key = ("app" if in_app else product.key, kind)
        if key not in self._fitting:
            tags = {"any", "idle", *(("app",) if in_app else product.tags)}
            self._fitting[key] = [
                topic
                for topic in self.topics
                if topic.kind == kind
                and topic.scope in tags
                and topic.name not in product.skip
                and topic.name != "surge_firmware"
            ] or [topic for topic in self.topics if topic.kind == kind and topic.scope == "app"]
        return self._fitting[key]

    def choose_topic(
        self, product: Product, kind: str, in_app: bool = False, is_public: bool = False
    ) -> Topic:
        """A fitting topic; urgent ones are rarer, most of all where no one can help (in public)."""
        found = self.find_topics(product, kind, in_app)
        weights = [weigh_topic(topic, is_public) for topic in found]
        return self.rng.choices(found, weights)[0]

    def facts(self, product: Product, at: datetime, **names: str) -> Facts:
        return Facts(self.rng, self.language, product, at, names)

    def say(self, topic: Topic, kind: str, facts: Facts) -> str:
        lines = topic.lines.get(kind)
        return render_line(self.rng.choice(lines), self.rng, facts) if lines else ""

    def say_extra(self, kind: str, facts: Facts) -> str:
        """A line of a helper topic: open, close, escalate_high, agent_first, bot, …"""
        return self.say(self.extras[kind], "core", facts)

    def write(self, topic: Topic, style_name: str, facts: Facts) -> Written:
        """One text about a topic in a style, with the label that its words deserve."""
        rng, style, label = self.rng, STYLES[style_name], topic.label
        has_core = "core" in topic.lines
        if "short" in topic.lines and (rng.random() < style.short or not has_core):
            body = self.say(topic, "short", facts)
            if label.feedback_type == "complaint" and rng.random() < 0.15:
                body = self._join([body, self.say_extra("annoyed", facts)])
            return self._finish(topic, style, label, [body], facts)
        parts = [self.say(topic, "core", facts)]
        if label.feedback_type != "other" and rng.random() < style.context:
            parts.insert(rng.randint(0, 1), self.say_extra("context", facts))
        parts += self._pick_details(topic, style, facts)
        if rng.random() < style.effect and "effect" in topic.lines:
            parts.append(self.say(topic, "effect", facts))
        if label.feedback_type == "complaint":
            label = self._escalate(label, parts, facts)
            if style_name != "phone" and rng.random() < 0.18:
                parts.append(self.say_extra("annoyed", facts))
        if rng.random() < style.ask and "ask" in topic.lines:
            parts.append(self.say(topic, "ask", facts))
        return self._finish(topic, style, label, parts, facts)

    def _pick_details(self, topic: Topic, style: Style, facts: Facts) -> list[str]:
        lines = topic.lines.get("detail", [])
        count = self.rng.choices(range(len(style.details)), style.details)[0]
        chosen = self.rng.sample(lines, min(count, len(lines)))
        return [render_line(line, self.rng, facts) for line in chosen]

    def _escalate(self, label: Label, parts: list[str], facts: Facts) -> Label:
        chance = self.rng.random()
        if label.priority == "urgent" or chance > 0.14:
            return label
        if chance < 0.035:
            parts.append(self.say_extra("escalate_urgent", facts))
            return Label(label.feedback_type, label.need, label.sentiment, "urgent")
        parts.append(self.say_extra("escalate_high", facts))
        return Label(label.feedback_type, label.need, label.sentiment, "high")

    def _join(self, parts: list[str]) -> str:
        return JOIN[self.language].join(part for part in parts if part)

    def _finish(
        self, topic: Topic, style: Style, label: Label, parts: list[str], facts: Facts
    ) -> Written:
        rng = self.rng
        subject = self.say(topic, "subject", facts)
        if style.paragraphs and len(parts) > 3:
            cut = rng.randint(1, len(parts) - 1)
            body = self._join(parts[:cut]) + "\n\n" + self._join(parts[cut:])
        else:
            body = self._join(parts)
        if rng.random() < style.careless:
            body = self.make_careless(body)
        if rng.random() < style.emoji:
            body += rng.choice(("", " ")) + rng.choice(EMOJI[label.sentiment]) * rng.choice(
                (1, 1, 2, 3)
            )
        gap = "\n\n" if style.paragraphs else ("\n" if rng.random() < 0.3 else JOIN[self.language])
        if rng.random() < style.opening:
            opening = "open" if style.paragraphs else "open_casual"
            body = self.say_extra(opening, facts) + gap + body
        if rng.random() < style.closing:
            closing = "close" if style.paragraphs else "close_casual"
            body = body + gap + self.say_extra(closing, facts)
        if not subject:
            subject = shorten(parts[0])
        return Written(subject, body.strip(), label, topic.name)

    def make_careless(self, text: str) -> str:
        """The text as typed in a hurry: slips, no capitals, too many signs."""
        rng = self.rng
        form = rng.random()
        if self.language == "zh":
            if form < 0.35:
                return text.rstrip("。！？") + rng.choice(("！！！", "！！", "。。。", "...", ""))
            if form < 0.6:
                return text.replace("，", " ").replace("。", " ").strip()
            if form < 0.85:
                return text.replace("，", ",").replace("。", rng.choice((".", "。")))
            for right, wrong in rng.sample(HOMOPHONES, len(HOMOPHONES)):
                if right in text:
                    return text.replace(right, wrong, 1)
            return text
        if form < 0.4:
            text = text.lower()
            return text.rstrip(".") if rng.random() < 0.5 else text
        if form < 0.5:
            return text.rstrip(".!?") + rng.choice(("!!!", "!!", "...", "!"))
        if form < 0.6:
            return text.replace("'", "")
        return swap_letters(text, rng)

    def edit(self, text: str, facts: Facts) -> str:
        """Nearly the same text: what one changes when sending it once more."""
        rng = self.rng
        tail = self.say_extra("annoyed", facts) if len(text) > 30 else ""
        forms = [
            text + JOIN[self.language] + tail
            if tail
            else text + ("!" if self.language == "en" else "！"),
            swap_letters(text, rng) if self.language == "en" else text.replace("，", " ", 1),
            text.replace(". ", ".\n", 1) if self.language == "en" else text.replace("。", "！", 1),
        ]
        changed = [form for form in forms if form != text]
        return rng.choice(changed) if changed else text + " "


def swap_letters(text: str, rng: random.Random) -> str:
    """The text with two neighbouring letters of a longer word swapped or one lost."""
    words = list(re.finditer(r"[a-z]{5,}", text))
    if not words:
        return text
    at = rng.choice(words)
    spot = at.start() + rng.randint(1, len(at[0]) - 3)
    if rng.random() < 0.6:
        return text[:spot] + text[spot + 1] + text[spot] + text[spot + 2 :]
    return text[:spot] + text[spot + 1 :]
