"""Which faults a kind's own tests put it through, read from the tests themselves.

``python -m tests.bench.source_faults`` renders the table of those that cannot occur into
CONTRIBUTING.md; a test holds it there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).parents[1] / "pipelines" / "sources"
ANSWERS = ("Answer", "error", "fault", "problem", "refusal", "refuse")
HOOKS = ("on_page", "before_page", "on_topics")  # what a server calls before it cuts a page
Judge = Callable[[ast.FunctionDef], bool]


def is_named(pattern: str) -> Judge:
    return lambda test: re.search(pattern, test.name) is not None


def find_calls(test: ast.FunctionDef) -> Iterator[tuple[str, ast.Call]]:
    """The calls of a test and of its decorators, by the last part of their name."""
    for node in ast.walk(test):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            yield (node.func.id if isinstance(node.func, ast.Name) else name), node


def does_call(*names: str) -> Judge:
    return lambda test: any(name in names for name, _ in find_calls(test))


def does_cut(test: ast.FunctionDef) -> bool:
    """Whether an answer is cut off: ``cut=…`` of a call, or ``"cut": …`` of a case."""
    for node in ast.walk(test):
        if isinstance(node, ast.keyword) and node.arg == "cut":
            return True
        if isinstance(node, ast.Dict) and any(
            isinstance(key, ast.Constant) and key.value == "cut" for key in node.keys
        ):
            return True
    return False


def does_answer(low: int, high: int) -> Judge:
    """Whether a status between two is answered, or is a case that the test is run with."""

    def judge(test: ast.FunctionDef) -> bool:
        return any(
            isinstance(node, ast.Constant) and type(node.value) is int and low <= node.value <= high
            for name, call in find_calls(test)
            if name in (*ANSWERS, "parametrize")
            for node in ast.walk(call)
        )

    return judge


def does_set(*names: str) -> Judge:
    """Whether a test gives a server something to do, such as ``server.on_page = …``."""
    return lambda test: any(
        isinstance(target, ast.Attribute) and target.attr in names
        for node in ast.walk(test)
        if isinstance(node, ast.Assign)
        for target in node.targets
    )


FAULTS: dict[str, tuple[Judge, ...]] = {
    "limit obeyed": (
        does_call("limit"),
        is_named("_limit|retry_after|budget|used_up|haste|waited_for"),
    ),
    "5xx": (does_answer(500, 504),),
    "page cut off": (does_cut, is_named("cut_off|breaks_off|half_written")),
    "cursor or token expired": (
        is_named("expire|no_longer_known|was_forgotten|token_that_ends|renewed_when"),
    ),
    "stopped after each batch": (
        does_call("pull_stopping", "pull_in_steps"),
        is_named("stopped_after"),
    ),
    "changed while read": (is_named("while_|meanwhile"), does_set(*HOOKS)),
    "wrong credentials": (
        is_named("wrong_(token|key|password|secret|refresh)|credentials"),
        is_named("token_that_is_refused|refused_token|changed_does_not"),
    ),
    "scope or plan missing": (is_named("scope|plan|may_not|skipped_with_a_note"),),
}

# Tests whose names say it in the words of their kind.
NAMED: dict[str, dict[str, str]] = {
    "calls": {"changed while read": "test_a_changed_file_is_a_new_version"},
    "imap": {
        "limit obeyed": "test_a_wait_that_the_server_names_is_kept",
        "5xx": "test_a_busy_server_is_asked_later",
        "page cut off": "test_a_connection_that_breaks_off_is_opened_again",
        "cursor or token expired": "test_uids_that_mean_others_now_are_read_again",
    },
    "mongodb": {
        "5xx": "test_a_server_that_is_not_there",
        "page cut off": "test_a_pull_that_is_cut_goes_on_where_it_was",
        "cursor or token expired": "test_a_pull_that_is_cut_goes_on_where_it_was",
        "wrong credentials": "test_login_and_password",
    },
    "redis_streams": {
        "5xx": "test_a_server_that_cannot_be_used",
        "cursor or token expired": "test_trimmed_entries_are_reported_once",
        "wrong credentials": "test_a_server_that_cannot_be_used",
    },
    "sql": {
        "5xx": "test_postgres_that_goes_away_while_rows_are_read",
        "page cut off": "test_postgres_that_goes_away_while_rows_are_read",
        "changed while read": "test_rows_that_appear_late_are_found_within_the_overlap",
        "wrong credentials": "test_postgres_that_cannot_be_used",
    },
    "files": {
        "5xx": "test_a_store_that_cannot_be_reached",
        "page cut off": "test_a_damaged_file_does_not_keep_the_others_from_being_read",
        "scope or plan missing": "test_what_a_store_refuses",
    },
    "webhook": {"5xx": "test_a_full_disk_asks_the_sender_to_come_again"},
    "web_reviews": {
        "limit obeyed": "test_pages_that_fail_break_off_or_ask_to_wait_are_asked_for_again",
        "page cut off": "test_pages_that_fail_break_off_or_ask_to_wait_are_asked_for_again",
        "5xx": "test_pages_that_fail_break_off_or_ask_to_wait_are_asked_for_again",
    },
}
OPEN = ("wrong credentials", "scope or plan missing")
FILES = ("limit obeyed", "5xx", "page cut off", "cursor or token expired", *OPEN)
# Which faults cannot come over which kinds, and why not.
CANNOT: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("app_store", "play_store", "web_reviews"), ("wrong credentials", "cursor or token expired"),
     "public pages: nobody signs in, and pages are known by number or address"),
    (("app_store", "play_store"), ("scope or plan missing",),
     "public pages: 403 is a refusal for haste, or leads to saved pages"),
    (("play_store",), ("changed while read",), "one page holds all that there is"),
    (("web_reviews",), ("changed while read",),
     "each review is read whole from its page; what changes later comes with the next crawl"),
    (("calls",), FILES, "reads files that lie here, by a list of their names"),
    (("files",), ("limit obeyed", "cursor or token expired"),
     "files and objects are read whole, the client of the store waits for its limits"),
    (("files",), ("wrong credentials",),
     "files need none; what a store refuses is the same refusal as a missing right"),
    (("sql", "mongodb", "redis_streams"), ("limit obeyed",),
     "databases queue requests, they do not refuse them for haste"),
    (("sql",), ("cursor or token expired",),
     "one statement streams its rows; it ends with the connection, as in page cut off"),
    (("redis_streams",), ("page cut off",),
     "an answer of the protocol has its length: a cut one is a lost connection"),
    (("webhook",), ("limit obeyed", "cursor or token expired", "scope or plan missing"),
     "the sender calls us: there is nothing to ask for"),
    (("webhook",), ("changed while read",), "a delivery is a file that is written once"),
)  # fmt: skip


def find_reason(stem: str, fault: str) -> str | None:
    """Why a fault cannot come over a kind; None if it can."""
    reasons = [why for stems, faults, why in CANNOT if stem in stems and fault in faults]
    return reasons[0] if reasons else None


def read_tests(path: Path) -> list[ast.FunctionDef]:
    return [
        node
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def find_tests(stem: str) -> list[ast.FunctionDef]:
    """The tests of a kind, and those of all kinds that it takes part in."""
    own = [test for path in (TESTS / stem).glob("test_*.py") for test in read_tests(path)]
    shared = [
        test
        for path in TESTS.glob("test_*.py")
        for test in read_tests(path)
        if stem in find_stems(test, path.stem)
    ]
    return own + shared


def find_stems(test: ast.FunctionDef, module: str) -> list[str]:
    """The kinds that a test is run with: ``parametrize("stem", NAME)`` of its module."""
    for name, call in find_calls(test):
        if name != "parametrize" or len(call.args) != 2:
            continue
        about, cases = call.args
        is_by_stem = isinstance(about, ast.Constant) and about.value == "stem"
        if is_by_stem and isinstance(cases, ast.Name):
            stems: list[str] = getattr(import_module(f"tests.pipelines.sources.{module}"), cases.id)
            return stems
    return []


def find_faults(stem: str) -> dict[str, list[str]]:
    """Fault → names of the tests of a kind that inject it; faults without a test are left out."""
    tests = find_tests(stem)
    named = NAMED.get(stem, {})
    found = {
        fault: [
            test.name
            for test in tests
            if test.name == named.get(fault) or any(judge(test) for judge in judges)
        ]
        for fault, judges in FAULTS.items()
    }
    return {fault: names for fault, names in found.items() if names}


TABLE = re.compile(r"\| kinds \| faults \|.*?\n\n", re.DOTALL)


def render_table() -> str:
    """The faults that cannot occur, as the table of CONTRIBUTING.md."""
    rows = [("kinds", "faults", "why they cannot occur"), ("---", "---", "---")]
    rows += [
        (", ".join(f"`{stem}`" for stem in stems), ", ".join(faults), why)
        for stems, faults, why in CANNOT
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n"


def main() -> None:
    path = TESTS.parents[2] / "CONTRIBUTING.md"
    text = path.read_text("utf-8")
    path.write_text(TABLE.sub(lambda _: render_table(), text), "utf-8")


if __name__ == "__main__":
    main()
