"""``hearback add``: a source set up by answering what is required, seen before it is written.

Questions come only for what a kind cannot do without; all of them, and everything else, can be
answered by ``--set``. One cheap page is pulled and shown. Only then hearback.toml, whose comments
stay, and .env are written.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.assignments import parse_assignments, parse_value, put
from pipelines.env_file import (
    connection_variable,
    encode_connection,
    env_file,
    read_env_file,
    write_connection,
)
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Settings, Source, load_settings, nearest
from pipelines.wording import Language, translate

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from pipelines.sources.base import Kind, Secret

ENTRY = ("name", "base_url", "connection", "start", "schedule", "enabled")
SECRETS = ("login", "password", "host", "port", "schema", "conn_type")
SAMPLE = 3
WORDS: dict[str, dict[str, str]] = {
    "en": {
        "name": "name of the source", "base_url": "address (base_url)", "from": "from",
        "path": "options.path", "looking": "pulling one page …",
        "write": "write this source?", "wrote": "wrote {}",
        "refused": "nothing was written", "next": "next: {}",
        "nothing": "nothing came: the source holds nothing yet, or nothing since its start",
        "later": "this source is not asked for a page: {}",
    },
    "zh": {
        "name": "来源的名称", "base_url": "地址（base_url）", "from": "来自",
        "path": "options.path", "looking": "正在采集一页……",
        "write": "写入这个来源？", "wrote": "已写入 {}",
        "refused": "没有写入任何内容", "next": "下一步：{}",
        "nothing": "没有记录：来源里还没有，或起始日期之后没有",
        "later": "没有向来源请求页面：{}",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Terminal:
    """Who answers: ``ask`` (question, default, is_secret) and ``confirm``; ``tell`` prints a line.

    Without ``ask`` nobody is there, and what is missing is an error that names it.
    """

    tell: Callable[[str], None]
    ask: Callable[[str, str | None, bool], str] | None = None
    confirm: Callable[[str], bool] | None = None


@dataclass
class Answers:
    """What was given by ``--set``, sorted: keys of the entry, secrets, options."""

    entry: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


def sort_answers(kind: Kind, given: Iterable[str]) -> Answers:
    """Answers by where they belong; UsageError names the nearest field for one that is unknown.

    A name that could be an option too is one with ``options.`` before it.
    """
    found = Answers()
    options = {f.alias or name for name, f in kind.options.model_fields.items()}
    for name, value in parse_assignments(given).items():
        first = name.removeprefix("options.").split(".")[0]
        if name in ENTRY:
            found.entry[name] = value
        elif name in SECRETS or name.startswith("extra."):
            found.secrets[name] = value
        elif first in options:
            found.options[name.removeprefix("options.")] = value
        else:
            known = [*ENTRY, *(secret.field for secret in kind.secrets), *sorted(options)]
            raise UsageError(
                f"--set {name}: kind {kind.name} has no such field{nearest(name, known)}; "
                f"fields are: {', '.join(known)}"
            )
    return found


def coerce(info: FieldInfo, text: str) -> Any:
    """A text as what a field wants: as TOML, as it stands, or parted by commas."""
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    parts = [part.strip() for part in text.split(",") if part.strip()]
    parsed = parse_value(text)
    for value in (parsed, text, parts):
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        return value
    return parsed  # read_options says what is wrong with it


def read_answer(kind: Kind, options: dict[str, Any], name: str, text: str) -> None:
    """Put the answer to one option into a table of options."""
    fields = {f.alias or key: f for key, f in kind.options.model_fields.items()}
    if name in fields:
        options[name] = coerce(fields[name], text)
        return
    value = parse_value(text)
    is_text = name.startswith("columns.") and not isinstance(value, str)
    put(options, name, text if is_text else value)


class Adder:
    """One source in the making."""

    def __init__(
        self, config: Path, kind: Kind, answers: Answers, terminal: Terminal, language: Language
    ) -> None:
        self.config = config
        self.kind = kind
        self.answers = answers
        self.terminal = terminal
        self.language = language
        self.words = WORDS[language]
        self.settings = (
            load_settings(config) if config.is_file() else Settings(path=config.absolute())
        )

    def answer(
        self, given: dict[str, str], name: str, question: str, *, default: str | None = None,
        is_secret: bool = False, instead: Iterable[str] = (),
    ) -> str:  # fmt: skip
        """What was given, else what is answered; UsageError if nobody is there to answer."""
        if name in given:
            return given[name]
        if self.terminal.ask is None:
            if default is not None:
                return default
            raise UsageError(
                f"hearback add {self.kind.name}: {name} is required ({question}); "
                f"add --set {name}=…" + "".join(f" or --set {other}" for other in instead)
            )
        return self.terminal.ask(question, default, is_secret)

    def choose_name(self) -> str:
        """A name that no source has yet; UsageError if the one given is taken."""
        taken = {source.name for source in self.settings.sources}
        free = self.kind.name
        number = 2
        while free in taken:
            free, number = f"{self.kind.name}_{number}", number + 1
        name = self.answer(self.answers.entry, "name", self.words["name"], default=free)
        if name in taken:
            raise UsageError(
                f"{self.config}: there is a source {name!r} already; choose another name"
            )
        return name

    def ask_entry(self) -> dict[str, Any]:
        """The keys of the source's entry, without connection and options."""
        entry: dict[str, Any] = {"name": self.choose_name(), "kind": self.kind.name}
        given = self.answers.entry
        if self.kind.needs_base_url and not self.kind.default_url:
            entry["base_url"] = self.answer(given, "base_url", self.words["base_url"])
        elif "base_url" in given:
            entry["base_url"] = given["base_url"]
        for name in ("start", "schedule", "enabled"):
            if name in given:
                entry[name] = parse_value(given[name])
        if isinstance(entry.get("start"), str):
            try:
                entry["start"] = date.fromisoformat(entry["start"])
            except ValueError:
                raise UsageError(f"--set start={entry['start']}: write it as 2026-01-31") from None
        return entry

    def ask_options(self) -> dict[str, Any]:
        """The options given, and those that the kind cannot do without."""
        options: dict[str, Any] = {}
        for name, text in self.answers.options.items():
            read_answer(self.kind, options, name, text)
        for key, info in self.kind.options.model_fields.items():
            name = info.alias or key
            if info.is_required() and name not in options:
                what = translate(info.description or "", self.language)
                text = self.answer({}, name, f"{name} ({what})")
                options[name] = coerce(info, text)
        return options

    def ask_connection(self, name: str) -> tuple[str | None, dict[str, Any]]:
        """The connection's name, and its secrets if it is a new one."""
        wanted = self.answers.entry.get("connection")
        given = self.answers.secrets
        is_wanted = self.kind.needs_connection or wanted or given
        if not self.kind.secrets or not is_wanted:
            return wanted, {}
        connection = wanted or name
        variable = connection_variable(connection)
        if variable in os.environ or variable in read_env_file(env_file(self.config)):
            if given:
                raise UsageError(
                    f"{variable} is set already and is not overwritten; leave the secrets out to "
                    "use it, or choose another name with --set connection=…"
                )
            return connection, {}
        fields: dict[str, Any] = {}
        replaced = {
            name
            for secret in self.kind.secrets if secret.field in given
            for name in secret.replaces
        }  # fmt: skip
        for secret in self.kind.secrets:
            is_required = not secret.is_optional and secret.field not in replaced
            if secret.field in given or is_required:
                put(fields, secret.field, self.ask_secret(secret))
        for field_given, value in given.items():
            put(fields, field_given, read_port(value) if field_given == "port" else value)
        return connection, {name: value for name, value in fields.items() if value != ""}

    def ask_secret(self, secret: Secret) -> str:
        what = translate(secret.what, self.language)
        where = translate(secret.where, self.language)
        question = f"{secret.field}: {what}" + (
            f" ({self.words['from']}: {where})" if where else ""
        )
        instead = [
            f"{other.field}=…" for other in self.kind.secrets if secret.field in other.replaces
        ]
        return self.answer(
            self.answers.secrets,
            secret.field,
            question,
            is_secret=secret.field != "login",
            instead=[*instead, "connection=… of one that is set"],
        )

    def make(self) -> tuple[Source, dict[str, Any]]:
        """The source as answered, and the secrets of its connection if they are to be written."""
        from pipelines.sources.base import read_options

        entry = self.ask_entry()
        options = self.ask_options()
        connection, secrets = self.ask_connection(entry["name"])
        if connection:
            entry["connection"] = connection
        source = check_entry({**entry, "options": options})
        with lend_secrets(connection, secrets):
            source = self.complete(source)
        read_options(source, self.kind.options)
        self.kind.mappings(source)
        return source, secrets

    def complete(self, source: Source) -> Source:
        """Columns of files that nobody has named, guessed from the first rows."""
        from pipelines.doctor import make_context
        from pipelines.guess import KINDS, guess_options

        is_of_files = source.kind in KINDS.values() and isinstance(source.options.get("path"), str)
        if not is_of_files or source.options.get("columns"):
            return source
        options = guess_options(source, make_context(self.settings, source))
        return source.model_copy(update={"options": options})


def read_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"--set port={text}: write a number such as 993")
    return int(text)


def check_entry(entry: dict[str, Any]) -> Source:
    """The entry as a source; UsageError in one line if it is not one."""
    from pydantic import ValidationError

    try:
        return Source.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"--set {key}: {first['msg'].removeprefix('Value error, ')}") from None


@contextmanager
def lend_secrets(connection: str | None, secrets: dict[str, Any]) -> Iterator[None]:
    """Secrets that are not written yet, in the environment of this process alone."""
    if not connection or not secrets:
        yield
        return
    variable = connection_variable(connection)
    os.environ[variable] = encode_connection(secrets)
    try:
        yield
    finally:
        os.environ.pop(variable, None)


def show_source(adder: Adder, source: Source) -> None:
    """Pull one cheap page and show a few records; HearbackError if a run would fail."""
    from pipelines.preview import preview_source
    from pipelines.preview_text import show_records

    tell = adder.terminal.tell
    if adder.kind.name == "webhook":
        tell(adder.words["later"].format("hearback intake"))
        return
    tell(adder.words["looking"])
    found = preview_source(adder.settings, probe(source), most=SAMPLE)
    lines = list(show_records(found, adder.language))
    for line in lines or [adder.words["nothing"]]:
        tell(line)


def probe(source: Source) -> Source:
    """The source as it is tried: a crawl of one page, all else as it is."""
    from pipelines.trying import PAGE

    if source.kind != "web_reviews":
        return source
    return source.model_copy(update={"options": {**source.options, **PAGE}})


def add_source(
    config: Path, kind_name: str, given: Iterable[str], terminal: Terminal, language: Language
) -> None:
    """Ask, show, and write a source; HearbackError, and nothing written, if it would not work."""
    from pipelines.sources import find_kind

    kind = find_kind(kind_name)
    adder = Adder(config, kind, sort_answers(kind, given), terminal, language)
    source, secrets = adder.make()
    with lend_secrets(source.connection, secrets):
        show_source(adder, source)
    if terminal.confirm and not terminal.confirm(adder.words["write"]):
        terminal.tell(adder.words["refused"])
        return
    if source.connection and secrets:
        written = write_connection(config, source.connection, secrets)
        terminal.tell(adder.words["wrote"].format(written))
    write_entry(config, source)
    terminal.tell(adder.words["wrote"].format(config))
    usual = config.absolute() == Path("hearback.toml").absolute()
    where = "" if usual else f" --config {shlex.quote(str(config))}"
    terminal.tell(adder.words["next"].format(f"hearback doctor{where}"))


def write_entry(config: Path, source: Source) -> None:
    """Add a source to hearback.toml; nothing else in it changes, and it is swapped in whole."""
    from pipelines.storage import explain_disk_errors

    text = insert_entry(read_config(config), render_entry(source))
    aside = config.with_name(f".{config.name}.new")
    with explain_disk_errors(str(config)):
        config.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        try:
            load_settings(aside)
        except HearbackError:
            aside.unlink()
            raise
        if config.exists():
            aside.chmod(config.stat().st_mode)
        aside.replace(config)


def render_entry(source: Source) -> str:
    """A source as an entry of hearback.toml."""
    import tomlkit

    entry = tomlkit.table()
    for name, value in source.model_dump(exclude_defaults=True, exclude={"options"}).items():
        entry.add(name, value)
    if source.options:
        entry.add("options", make_table(source.options))
    entries = tomlkit.aot()
    entries.append(entry)
    document = tomlkit.document()
    document.add("sources", entries)
    return tomlkit.dumps(document)


def make_table(options: dict[str, Any]) -> Any:
    """Options as a TOML table: tables in one line each, lists of tables as such."""
    import tomlkit

    table = tomlkit.table()
    for name, value in options.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            many = tomlkit.aot()
            for one in value:
                many.append(make_table(one))
            table.add(name, many)
        elif isinstance(value, dict):
            inline = tomlkit.inline_table()
            inline.update(value)
            table.add(name, inline)
        else:
            table.add(name, value)
    return table


def insert_entry(text: str, entry: str) -> str:
    """A configuration with an entry after its last source; at its end if there is none.

    What is written in between, comments above all, stays as it is.
    """
    lines = text.splitlines(keepends=True)
    header = re.compile(r"\s*\[\[?\s*([A-Za-z_]+)")
    headers = [(n, m[1]) for n, line in enumerate(lines) if (m := header.match(line))]
    last = max((n for n, name in headers if name == "sources"), default=None)
    end = len(lines)
    if last is not None:
        end = next((n for n, _ in headers if n > last), len(lines))
        while end > last + 1 and lines[end - 1].strip()[:1] in ("", "#"):
            end -= 1
    before, after = "".join(lines[:end]), "".join(lines[end:])
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    made = f"{before}{gap}{entry.rstrip()}\n{after if after.strip() else ''}"
    wanted = [*tomllib.loads(text).get("sources", []), *tomllib.loads(entry)["sources"]]
    if tomllib.loads(made) != {**tomllib.loads(text), "sources": wanted}:
        made = f"{text.rstrip()}\n\n{entry}"  # something in it looks like a header and is none
    return made


def read_config(config: Path) -> str:
    """The configuration as text; where there is none, the starter's without its example source."""
    from pipelines.starter import read_template

    if config.is_file():
        return config.read_text(encoding="utf-8")
    text = read_template("hearback.toml")
    return (
        text[: text.index("# Where feedback comes from.")] + text[text.index("# Opening hours") :]
    )
