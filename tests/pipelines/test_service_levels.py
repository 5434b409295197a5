"""Policies that can never apply are told of by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.doctor import check_service_levels
from pipelines.service_levels import list_policy_warnings
from pipelines.settings import Settings


def make_settings(*policies: dict[str, Any]) -> Settings:
    named = [{"name": f"p{number}", **policy} for number, policy in enumerate(policies, 1)]
    return Settings.model_validate({"sla_policies": named, "path": Path("hearback.toml")})


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([{}], "policy 'p1': it has no target"),
        (
            [{"first_reply": 60}, {"when": {"channel": ["chat"]}, "first_reply": 5}],
            "policy 'p2': it never applies: policy 'p1' stands before it",
        ),
        (
            [
                {"when": {"need": ["sales", "technical"]}, "first_reply": 60},
                {"when": {"need": ["sales"], "tag": ["vip"]}, "first_reply": 5},
            ],
            "policy 'p2': it never applies",
        ),
        (
            [{"when": {"priority": ["urgent"]}, "first_reply": {"normal": 60}}],
            "its cases are urgent, its targets are for normal",
        ),
        ([{"when": {"team": []}, "first_reply": 60}], "team = [] holds for every case"),
        (
            [{"when": {"channel": ["e-mail"]}, "first_reply": 60}],
            "no case comes by channel 'e-mail', did you mean 'email'?",
        ),
        (
            [{"when": {"tag": ["after_sales"]}, "first_reply": 60}],
            "tag 'after_sales' is a need: if that is meant, write need = [\"after_sales\"]",
        ),
        (
            [{"clocks": {"agent_work": "calendar"}, "first_reply": 60}],
            "clocks names agent_work, for which it has no target",
        ),
    ],
)
def test_what_never_applies_is_named(policies: list[dict[str, Any]], said: str) -> None:
    found = list_policy_warnings(make_settings(*policies))
    assert len(found) == 1
    assert said in found[0]
    # The summary of a run parts what steps warn of at semicolons.
    assert ";" not in found[0]


def test_policies_that_can_apply_are_left_in_peace() -> None:
    settings = make_settings(
        {"when": {"need": ["sales"]}, "first_reply": 60},
        {"when": {"need": ["sales", "technical"]}, "first_reply": 60},
        {"when": {"priority": ["urgent"]}, "agent_work": {"urgent": 60}},
        {"next_reply": 90},
    )
    assert list_policy_warnings(settings) == []
    assert check_service_levels(settings) == "p1, p2, p3, p4"


def test_one_number_is_the_target_of_every_priority() -> None:
    policy = make_settings({"total_resolution": 600}).sla_policies[0]
    assert policy.targets == {
        "total_resolution": dict.fromkeys(("urgent", "high", "normal", "low"), 600)
    }
