"""Rules of urgency: what in a text calls for attention, whatever the model thinks.

A rule counts only in a complaint or an annoyed text, or where the model itself leans to urgent or
high: "is there a police station nearby?" is no threat.
"""

from __future__ import annotations

import numpy as np

from models.tokens import Array

RULE_LEVELS = ("urgent", "high", "normal")
REASONS = {
    "safety": "urgent",
    "security": "urgent",
    "fraud": "urgent",
    "legal_threat": "urgent",
    "explicit_now": "urgent",
    "money_lost": "high",
    "outage": "high",
    "repeated_contact": "high",
    "churn_threat": "high",
    "anger": "normal",
}
NO_RULE = len(RULE_LEVELS)


def find_reasons(cues: Array, cue_names: tuple[str, ...]) -> Array:
    """Which reasons each text holds: bool [n, reasons], in the order of REASONS."""
    columns = [cue_names.index(f"reason_{reason}") for reason in REASONS]
    return cues[:, columns] > 0


def find_rule_levels(cues: Array, cue_names: tuple[str, ...]) -> Array:
    """Most urgent level that a reason asks for: int64 [n], index into RULE_LEVELS, or NO_RULE."""
    return lowest_level(find_reasons(cues, cue_names))


def lowest_level(reasons: Array) -> Array:
    """Index into RULE_LEVELS of the most urgent of a text's reasons; NO_RULE if it has none."""
    levels = np.array([RULE_LEVELS.index(level) for level in REASONS.values()])
    return np.where(reasons, levels[None, :], NO_RULE).min(axis=1, initial=NO_RULE)
