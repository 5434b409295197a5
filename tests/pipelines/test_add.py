"""Adding a source: asked, shown, and only then written; secrets apart, comments kept."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.adding import Adder, Terminal, add_source, insert_entry, sort_answers
from pipelines.cli import execute
from pipelines.env_file import read_env_file
from pipelines.errors import HearbackError, UsageError
from pipelines.settings import load_settings
from pipelines.sources import find_kind
from tests.pipelines.sources.brevo.server import KEY, Brevo
from tests.pipelines.sources.vendor_server import Answer

COMMENTED = """# mine
[project]
home = "data"  # here

[[sources]]  # the first
name = "old"
kind = "csv"
options = { path = "old.csv", columns = { body = "text" } }

# Hours of the shop.
[[calendars]]
name = "office"
time_zone = "Asia/Shanghai"
hours = { monday = ["09:00-18:00"] }
"""


@pytest.fixture(autouse=True)
def alone(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path_factory.getbasetemp() / "models"
    kept.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.delenv("AIRFLOW_CONN_BREVO", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def brevo() -> Iterator[Brevo]:
    with Brevo() as server:
        assert isinstance(server, Brevo)
        yield server


class Person:
    """Answers questions in order and remembers them; says yes or no at the end."""

    def __init__(self, *answers: str, agrees: bool = True) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None, bool]] = []
        self.told: list[str] = []
        self.agrees = agrees

    def ask(self, question: str, default: str | None, is_secret: bool) -> str:
        self.asked.append((question, default, is_secret))
        return self.answers.pop(0)

    def terminal(self) -> Terminal:
        return Terminal(self.told.append, self.ask, lambda question: self.agrees)


def write_reviews(folder: Path) -> None:
    (folder / "r.csv").write_text(
        "id,text,stars\n1,The lid leaks; call 13800138000,1\n2,Fine kettle,5\n", encoding="utf-8"
    )


def add(*arguments: str) -> int:
    return execute(["add", *arguments, "--yes"])


def test_only_what_is_required_is_asked_and_seen_before_it_is_written(
    brevo: Brevo, tmp_path: Path
) -> None:
    config = tmp_path / "hearback.toml"
    person = Person("news", KEY)
    add_source(config, "brevo", [f"base_url={brevo.url}"], person.terminal(), "en")
    assert person.asked == [
        ("name of the source", "brevo", False),
        ("password: API key (from: Settings → SMTP & API → API keys)", None, True),
    ]
    shown = "\n".join(person.told)
    assert shown.index("→ customers: source_customer_id = ") < shown.index("wrote ")
    assert brevo.contacts[0]["email"] not in shown
    assert person.told[-1] == "next: hearback doctor"
    (source,) = load_settings(config).sources
    assert (source.name, source.kind, source.base_url) == ("news", "brevo", brevo.url)
    assert source.connection == "news"
    secret = json.loads(read_env_file(tmp_path / ".env")["AIRFLOW_CONN_NEWS"])
    assert secret["password"] == KEY
    assert KEY not in config.read_text(encoding="utf-8") + shown
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert ".env" in (tmp_path / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert len(brevo.requests) == 1, "one cheap page"


def test_what_add_wrote_is_healthy(
    brevo: Brevo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))
    assert add("brevo", "--set", f"base_url={brevo.url}", "--set", f"password={KEY}") == 0
    assert execute(["doctor"]) == 0, capsys.readouterr().out


def test_who_declines_finds_nothing_written(brevo: Brevo, tmp_path: Path) -> None:
    person = Person("news", KEY, agrees=False)
    config = tmp_path / "hearback.toml"
    add_source(config, "brevo", [f"base_url={brevo.url}"], person.terminal(), "zh")
    assert person.told[-1] == "没有写入任何内容"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["brevo"], "password is required"),
        (["zendesk"], "base_url is required"),
        (["google_forms"], "forms is required (forms (ids of the forms"),
        (["google_forms", "--set", "forms=f"], "or --set extra.key_path=… or --set extra.keyfile"),
        (["brevo", "--set", "pasword=x"], "did you mean 'password'"),
        (["brevo", "--set", "name=Bad Name", "--set", "password=x"], "--set name: "),
        (["brevo", "--set", "start=soon", "--set", "password=x"], "write it as 2026-01-31"),
        (["csv", "--set", "path=r.csv", "--set", "entity=feedbak"], "did you mean 'feedback'"),
        (["csv", "--set", "path=r.csv", "--set", "columns.bdy=text"], "did you mean 'body'"),
        (["rss", "--set", "channel=tv"], "option 'channel'"),
        (["rest", "--set", "base_url=http://127.0.0.1:1", "--set", "endpoints=[]"], "endpoints"),
        (["rss", "--set", "x"], "write it as field=value"),
        (["brevo", "--set", "password=x", "--set", "port=abc"], "write a number such as 993"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reviews(tmp_path)
    assert add(*arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "hearback.toml").exists()


@pytest.mark.parametrize(
    ("kind", "given", "secrets"),
    [
        (
            "google_forms",
            ["forms=f", "extra.key_path=key.json"],
            {"extra": {"key_path": "key.json"}},
        ),
        (
            "google_forms",
            ["forms=f", 'extra.keyfile_dict={"client_email": "robot@x.example"}'],
            {"extra": {"keyfile_dict": '{"client_email": "robot@x.example"}'}},
        ),
        (
            "google_forms",
            ["forms=f", "extra.key_path=key.json", "password=too"],
            {"password": "too", "extra": {"key_path": "key.json"}},
        ),
        (
            "redis",
            ["streams=[]", "extra.url=redis://cache.example/1"],
            {"extra": {"url": "redis://cache.example/1"}},
        ),
    ],
)
def test_what_another_field_replaces_is_not_asked(
    kind: str, given: list[str], secrets: dict[str, Any], tmp_path: Path
) -> None:
    person = Person()  # who would be at a loss for an answer
    answers = sort_answers(find_kind(kind), given)
    adder = Adder(tmp_path / "hearback.toml", find_kind(kind), answers, person.terminal(), "en")
    assert adder.ask_connection("new") == ("new", secrets)
    assert person.asked == []


@pytest.mark.parametrize("place", ["r.csv.gz", "inbox"])
def test_columns_of_packed_files_and_folders_are_guessed_too(place: str, tmp_path: Path) -> None:
    write_reviews(tmp_path)
    content = (tmp_path / "r.csv").read_bytes()
    if place == "inbox":
        (tmp_path / place).mkdir()
        (tmp_path / place / "r.csv").write_bytes(content)
    else:
        (tmp_path / place).write_bytes(gzip.compress(content))
    assert add("csv", "--set", f"path={place}") == 0
    (source,) = load_settings(tmp_path / "hearback.toml").sources
    assert source.options["path"] == place
    assert source.options["columns"]["body"] == "text"


def test_a_wrong_column_fails_at_once_and_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reviews(tmp_path)
    assert add("csv", "--set", "path=r.csv", "--set", "columns.body=txt") == 1
    assert "r.csv has no column 'txt', did you mean 'text'" in capsys.readouterr().err
    assert not (tmp_path / "hearback.toml").exists()


def test_refused_secrets_are_not_written(
    brevo: Brevo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add("brevo", "--set", f"base_url={brevo.url}", "--set", "password=wrong") == 1
    assert "the credentials were refused; check connection 'brevo'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_server_in_trouble_is_told_soon(brevo: Brevo, capsys: pytest.CaptureFixture[str]) -> None:
    brevo.fail("contacts", Answer({}, 503), times=99)
    assert add("brevo", "--set", f"base_url={brevo.url}", "--set", f"password={KEY}") == 1
    assert "503" in capsys.readouterr().err
    assert len(brevo.requests) == 2


def test_a_connection_that_is_set_is_used(
    brevo: Brevo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHARED", json.dumps({"password": KEY}))
    assert add("brevo", "--set", f"base_url={brevo.url}", "--set", "connection=shared") == 0
    assert load_settings(tmp_path / "hearback.toml").sources[0].connection == "shared"
    assert not (tmp_path / ".env").exists()


def test_a_connection_that_is_set_is_not_overwritten(
    brevo: Brevo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("AIRFLOW_CONN_BREVO='{}'\n", encoding="utf-8")
    assert add("brevo", "--set", f"base_url={brevo.url}", "--set", f"password={KEY}") == 2
    assert "AIRFLOW_CONN_BREVO is set already" in capsys.readouterr().err
    assert (tmp_path / ".env").read_text(encoding="utf-8") == "AIRFLOW_CONN_BREVO='{}'\n"


def test_comments_and_order_stay(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    config = tmp_path / "hearback.toml"
    config.write_text(COMMENTED, encoding="utf-8")
    assert add("csv", "--set", "path=r.csv", "--set", "name=reviews") == 0
    made = config.read_text(encoding="utf-8")
    for line in COMMENTED.splitlines():
        assert line in made.splitlines()
    assert made.index('name = "old"') < made.index('name = "reviews"') < made.index("# Hours of")
    second = load_settings(config).sources[1]
    assert second.options["columns"] == {
        "source_record_id": "id", "body": "text", "rating": "stars",
    }  # fmt: skip
    assert second.options["constants"] == {"rating_min": 1.0, "rating_max": 5.0}


def test_the_first_source_comes_with_the_starter(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    assert add("csv", "--set", "path=r.csv") == 0
    text = (tmp_path / "hearback.toml").read_text(encoding="utf-8")
    assert "# Promises to customers" in text
    assert [source.name for source in load_settings(tmp_path / "hearback.toml").sources] == ["csv"]
    assert add("csv", "--set", "path=r.csv") == 0
    names = [source.name for source in load_settings(tmp_path / "hearback.toml").sources]
    assert names == ["csv", "csv_2"]


def test_a_name_that_is_taken_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reviews(tmp_path)
    assert add("csv", "--set", "path=r.csv") == 0
    assert add("csv", "--set", "path=r.csv", "--set", "name=csv") == 2
    assert "there is a source 'csv' already" in capsys.readouterr().err


ENTRY = '[[sources]]\nname = "new"\nkind = "rss"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment",
        '[project]\nhome = "data"\n',
        COMMENTED,
        COMMENTED + ENTRY.replace("new", "other"),
        '[[sources]]\nname = "a"\nkind = "rss"\n[sources.options]\nurls = ["""\n[[teams]]\n"""]\n',
        '[[sources]]\nname = "a"\nkind = "rss"\n[[sources.options.x]]\ny = 1\n\n# end\n',
    ],
)
def test_an_entry_is_put_where_it_changes_nothing_else(text: str) -> None:
    made = tomllib.loads(insert_entry(text, ENTRY))
    before: dict[str, Any] = tomllib.loads(text)
    assert made.pop("sources") == [
        *before.pop("sources", []),
        {"name": "new", "kind": "rss"},
    ]
    assert made == before
    assert all(line in insert_entry(text, ENTRY) for line in text.splitlines())


def test_lists_and_tables_are_read_from_what_is_typed(tmp_path: Path) -> None:
    from pipelines.adding import read_answer
    from pipelines.sources import find_kind

    options: dict[str, Any] = {}
    for name, text in {"apps": "123, 456", "countries": '["de"]'}.items():
        read_answer(find_kind("app_store"), options, name, text)
    assert options == {"apps": ["123", "456"], "countries": ["de"]}
    options = {}
    read_answer(find_kind("salesforce"), options, "statuses.Escalated", "open")
    read_answer(find_kind("salesforce"), options, "api_version", "61.0")
    assert options == {"statuses": {"Escalated": "open"}, "api_version": "61.0"}


def test_a_kind_nobody_knows_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'brevo'"):
        add_source(tmp_path / "hearback.toml", "breevo", [], Terminal(print), "en")


def test_a_full_disk_leaves_the_configuration_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reviews(tmp_path)
    config = tmp_path / "hearback.toml"
    config.write_text(COMMENTED, encoding="utf-8")

    def fail(self: Path, *arguments: Any, **more: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(HearbackError, match="disk full"):
        add_source(config, "csv", ["path=r.csv"], Terminal(lambda line: None), "en")
    assert config.read_text(encoding="utf-8") == COMMENTED
