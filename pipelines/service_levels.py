"""What is odd about configured service levels: policies that can never match, and the like."""

from __future__ import annotations

from typing import get_args

from pipelines.entities import CHANNELS
from pipelines.settings import Need, Priority, Settings, SlaConditions, SlaPolicy, nearest


def list_policy_warnings(settings: Settings) -> list[str]:
    """One line for each thing that keeps a policy, or a part of one, from ever applying."""
    found: list[str] = []
    for place, policy in enumerate(settings.sla_policies):
        earlier = [other for other in settings.sla_policies[:place] if other.targets]
        said = [*explain_no_target(policy), *explain_conditions(policy.when)]
        shadow = next((other.name for other in earlier if covers(other.when, policy.when)), None)
        if shadow and policy.targets:
            said.append(
                f"it never applies: policy {shadow!r} stands before it and takes all its cases"
            )
        found += [f"SLA policy {policy.name!r}: {text}" for text in said]
    return found


def covers(first: SlaConditions, second: SlaConditions) -> bool:
    """Whether every case that second lets through is let through by first."""
    for name in SlaConditions.model_fields:
        wide, narrow = set(getattr(first, name)), set(getattr(second, name))
        if wide and not (narrow and narrow <= wide):
            return False
    return True


def explain_no_target(policy: SlaPolicy) -> list[str]:
    if not policy.targets:
        return ["it has no target and is passed over: add one, such as first_reply = 60"]
    found = []
    wanted = set(policy.when.priority)
    given = {priority for targets in policy.targets.values() for priority in targets}
    if wanted and not wanted & given:
        found.append(
            f"it never applies: its cases are {', '.join(sorted(wanted))}, "
            f"its targets are for {', '.join(sorted(given))}"
        )
    idle = [metric for metric in policy.clocks if metric not in policy.targets]
    if idle:
        found.append(f"clocks names {', '.join(idle)}, for which it has no target")
    return found


def explain_conditions(when: SlaConditions) -> list[str]:
    found = [
        f"{name} = [] holds for every case: leave it out, or name what it is for"
        for name in sorted(when.model_fields_set)
        if not getattr(when, name)
    ]
    for channel in when.channel:
        if channel not in CHANNELS:
            found.append(f"no case comes by channel {channel!r}{nearest(channel, list(CHANNELS))}")
    kinds = {"need": get_args(Need), "priority": get_args(Priority), "channel": CHANNELS}
    for tag in when.tag:
        for name, words in kinds.items():
            if tag in words and tag != "other":
                found.append(f'tag {tag!r} is a {name}: if that is meant, write {name} = ["{tag}"]')
    return found
