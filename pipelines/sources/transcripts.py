"""Transcripts: who said what and when, from text with speaker labels, WebVTT, SubRip and JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

LONGEST_LABEL = 200  # of a line, in which a speaker is looked for
AGENTS = {
    "agent", "operator", "rep", "representative", "support", "support agent", "advisor", "adviser",
    "csr", "staff", "employee", "clerk", "assistant", "internal", "客服", "坐席", "座席",
    "客服人员", "客服代表", "话务员", "工作人员", "接线员", "店员", "客服专员", "人工客服",
    "客服经理",
}  # fmt: skip
CUSTOMERS = {
    "customer", "caller", "client", "user", "member", "guest", "consumer", "buyer", "external",
    "客户", "顾客", "用户", "来电人", "来电者", "来电客户", "买家", "会员", "客人", "客戶", "顧客",
}  # fmt: skip
MACHINES = {"system", "ivr", "bot", "robot", "系统", "语音导航", "机器人", "智能客服", "语音播报"}
TIME = r"(?:\d{1,2}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
STAMP = r"[\[(（【]?\s*(?:\d{4}[-/]\d\d?[-/]\d\d?\s+)?(?P<GROUP>" + TIME + r")\s*[\])）】]?"
# "[00:01:23] Agent: text", "Agent (00:01:23): text", "客服（张三）：text"
LINE = re.compile(
    r"^\s*(?:" + STAMP.replace("GROUP", "before") + r"\s*(?:[-–]\s*)?)?"
    r"[\[【*_]*(?P<name>[^\d\s:：\[\]【】*_<>][^:：\[\]【】*_<>\n]{0,39}?)[\]】*_]*"
    r"\s*(?:" + STAMP.replace("GROUP", "after") + r")?\s*[:：][*_]*\s*(?P<text>.*)$"
)
# "张三 00:00:05" on a line of its own, the words below it
HEAD = re.compile(
    r"^\s*(?P<name>[^\d\s:：<>][^:：<>\n]{0,39}?)\s+" + STAMP.replace("GROUP", "time") + r"\s*$"
)
CUE = re.compile(rf"^\s*(?P<start>{TIME})\s+-->\s+(?P<end>{TIME})")
VOICE = re.compile(r"<v(?:\.[\w.-]{1,80})?\s{1,9}([^<>]{1,200})>")
CUE_TAG = re.compile(
    r"</?(?:[a-z]{1,20}(?:\.[\w.-]{1,80})?(?:\s[^<>]{0,200})?)>|\{\\[^{}]{0,80}\}|<" + TIME + ">",
    re.IGNORECASE,
)
NAMES = ("speaker", "role", "participant", "ParticipantRole", "ParticipantId", "speaker_label",
         "speakerName", "speaker_name", "channel", "from", "author", "name", "角色",
         "说话人")  # fmt: skip
WORDS = ("text", "Content", "content", "transcript", "sentence", "message", "words", "Text",
         "内容", "文本")  # fmt: skip
STARTS = ("start", "start_time", "startTime", "begin", "begin_time", "BeginOffsetMillis", "offset",
          "time", "timestamp", "开始时间")  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """What one speaker said at one go; ``at``: seconds from the beginning of the call.

    ``is_named``: the file says that this is a speaker, so that it needs no guess.
    """

    speaker: str | None
    text: str
    at: float | None = None
    is_named: bool = field(default=False, compare=False)


def parse_time(text: str) -> float:
    """Seconds of "1:02:03.5", "02:03" or "02:03,5"."""
    seconds = 0.0
    for part in text.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def join_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Turns in a row of one speaker become one."""
    joined: list[Turn] = []
    for turn in turns:
        text = turn.text.strip()
        if not text:
            continue
        if joined and joined[-1].speaker == turn.speaker:
            before = joined[-1]
            joined[-1] = Turn(before.speaker, f"{before.text}\n{text}", before.at)
        else:
            joined.append(Turn(turn.speaker, text, turn.at))
    return joined


# Text ---------------------------------------------------------------------------------------------


def read_labelled(text: str, known: Roles) -> list[Turn]:
    """The turns of a text with speaker labels; none if it has no such labels.

    A word before a colon is a speaker if it names a role, or comes three times or more beside
    another that does, too.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = [match_line(line) for line in lines]
    names = Counter(clean_name(match["name"]) for match in found if match)
    often = {name for name, count in names.items() if count >= 3}
    speakers = {name for name in names if known.find(name)}
    if speakers or len(often) >= 2:
        speakers |= often
        speakers |= {
            clean_name(match["name"])
            for match in found
            if match and has_time(match) and len(clean_name(match["name"])) <= 20
        }
    turns: list[Turn] = []
    for line, match in zip(lines, found, strict=True):
        if match and clean_name(match["name"]) in speakers:
            told = match.groupdict()
            time = told.get("before") or told.get("after") or told.get("time")
            at = parse_time(time) if time else None
            words = (told.get("text") or "") + line[LONGEST_LABEL:]
            turns.append(Turn(clean_name(match["name"]), words, at))
        elif turns:
            last = turns[-1]
            turns[-1] = Turn(last.speaker, f"{last.text}\n{line}", last.at)
    return join_turns(turns)


def match_line(line: str) -> re.Match[str] | None:
    """A line's label, if it may have one, and what follows it in the line's beginning."""
    begin = " ".join(line[:LONGEST_LABEL].split())
    return HEAD.match(begin) or LINE.match(begin)


def has_time(match: re.Match[str]) -> bool:
    told = match.groupdict()
    return bool(told.get("before") or told.get("after") or told.get("time"))


def clean_name(name: str) -> str:
    return " ".join(name.split())


# Captions -----------------------------------------------------------------------------------------


def read_captions(text: str) -> list[Turn]:
    """The turns of WebVTT or SubRip: ``<v Name>``, or "Name: " at the beginning of a cue."""
    turns: list[Turn] = []
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        place = next((n for n, line in enumerate(lines) if CUE.match(line)), None)
        if place is None:
            continue  # WEBVTT, NOTE, STYLE, REGION
        cue = CUE.match(lines[place])
        at = parse_time(cue["start"]) if cue else None
        turns += read_cue("\n".join(lines[place + 1 :]), at)
    return turns


def read_cue(text: str, at: float | None) -> Iterator[Turn]:
    voices = list(VOICE.finditer(text))
    if voices:
        ends = [voice.start() for voice in voices[1:]] + [len(text)]
        for voice, end in zip(voices, ends, strict=True):
            yield Turn(clean_name(voice[1]), strip_tags(text[voice.end() : end]), at, True)
        return
    for line in strip_tags(text).splitlines():
        bare = re.sub(r"^(?:>>|-)\s?", "", line.strip())
        match = LINE.match(" ".join(bare[:LONGEST_LABEL].split()))
        if match and match["name"]:
            yield Turn(clean_name(match["name"]), match["text"] + bare[LONGEST_LABEL:], at)
        else:
            yield Turn(None, line, at)


def strip_tags(text: str) -> str:
    bare = CUE_TAG.sub("", text)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&lrm;", ""),
                         ("&rlm;", ""), ("&amp;", "&")):  # fmt: skip
        bare = bare.replace(entity, sign)
    return bare


def settle_captions(turns: list[Turn], known: Roles) -> list[Turn]:
    """Cues without a speaker go on with the last one; a name that is none becomes words again."""
    names = Counter(turn.speaker for turn in turns if turn.speaker)
    real = {name for name, count in names.items() if count >= 2 or known.find(name)}
    real |= {turn.speaker for turn in turns if turn.speaker and turn.is_named}
    settled: list[Turn] = []
    for turn in turns:
        before = settled[-1].speaker if settled else None
        if turn.speaker is None:
            settled.append(Turn(before, turn.text, turn.at))
        elif turn.speaker in real or not names:
            settled.append(turn)
        else:
            settled.append(Turn(before, f"{turn.speaker}: {turn.text}", turn.at))
    return join_turns(settled)


# JSON ---------------------------------------------------------------------------------------------


def first_of(item: dict[str, Any], names: Iterable[str]) -> Any:
    return next((item[name] for name in names if item.get(name) not in (None, "", [])), None)


def read_items(items: list[Any]) -> list[Turn]:
    """The turns of a list of objects that have a speaker, words and maybe a time."""
    turns = []
    for item in items:
        if isinstance(item, str):
            turns.append(Turn(None, item))
        if not isinstance(item, dict):
            continue
        words, name = first_of(item, WORDS), first_of(item, NAMES)
        if isinstance(words, list):
            words = " ".join(str(first_of(w, ("word", "text")) or "") if isinstance(w, dict)
                             else str(w) for w in words)  # fmt: skip
        if isinstance(name, dict):
            name = first_of(name, ("role", "name", "id"))
        turns.append(
            Turn(
                clean_name(str(name)) if name is not None else None,
                str(words or ""),
                read_start(item),
            )
        )
    return join_turns(turns)


def read_start(item: dict[str, Any]) -> float | None:
    """Seconds from the beginning; a time of day says nothing of it."""
    name = next((name for name in STARTS if item.get(name) not in (None, "")), None)
    if name is None:
        return None
    value = item[name]
    if isinstance(value, str) and re.fullmatch(TIME, value.strip()):
        return parse_time(value.strip())
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if name.endswith("Millis") or (name in ("begin_time", "offset") and number > 10_000):
        number /= 1000
    return number if 0 <= number < 86_400 else None


# Roles --------------------------------------------------------------------------------------------


class Roles:
    """Which speakers are agents and which are customers."""

    def __init__(self, agents: Iterable[str], customers: Iterable[str], first: str) -> None:
        self.agents = AGENTS | {name.lower() for name in agents}
        self.customers = CUSTOMERS | {name.lower() for name in customers}
        self.first = first

    def find(self, name: str | None) -> str | None:
        """The role that a label names: "Agent", "客服（张三）", "AGENT_1"."""
        if not name:
            return None
        label = re.sub(r"\s*[(（\[][^)）\]]*[)）\]]\s*$", "", name).strip().lower()
        for text in (name.lower(), label, re.sub(r"[\s_#-]*\d+$", "", label)):
            for role, names in (
                ("agent", self.agents), ("customer", self.customers), ("system", MACHINES)
            ):  # fmt: skip
                if text in names:
                    return role
        return None

    def settle(self, turns: list[Turn]) -> dict[str | None, str]:
        """The role of each speaker of a call.

        Who is not known is a customer if an agent is, and an agent if a customer is. Where nobody
        is known, ``first`` says who speaks first.
        """
        names = list(dict.fromkeys(turn.speaker for turn in turns))
        roles = {name: role for name in names if (role := self.find(name))}
        told = set(roles.values())
        rest = [name for name in names if name not in roles]
        for number, name in enumerate(rest):
            if "agent" in told:
                roles[name] = "customer"
            elif "customer" in told:
                roles[name] = "agent"
            elif len(rest) == 1:
                roles[name] = "customer"  # a note, or one voice alone
            else:
                is_first = number == 0
                roles[name] = self.first if is_first else OTHER[self.first]
        return roles


OTHER = {"agent": "customer", "customer": "agent"}
