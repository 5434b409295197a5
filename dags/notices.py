"""Telling people that a task has failed."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import BaseNotifier, Connection

from dags.configuration import read_settings

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10.0


class FailureNotice(BaseNotifier):
    """Logs one line, and sends it where ``delivery.failure_webhook_connection`` points.

    That connection may be of type ``smtp`` (mail from its ``from_email`` to the ``to_email`` of its
    extra) or anything else (a webhook that takes ``{"text": …}``, as Slack, Feishu's gateway and
    Mattermost do). A notice that cannot be sent is logged and never fails anything.
    """

    def notify(self, context: Any) -> None:
        text = describe_failure(context)
        log.error("%s", text)
        try:
            connection_id = find_connection_id()
            if connection_id:
                send_notice(Connection.get(connection_id), text)
        except Exception as error:
            # An address of a webhook is a secret, and errors of the network quote it.
            log.error("the notice could not be sent: %s", type(error).__name__)


def describe_failure(context: Any) -> str:
    """One line: DAG, task, source, run, and why."""
    ti = context["ti"]
    label = getattr(ti, "rendered_map_index", None)
    task = f"{ti.task_id} [{label}]" if label else ti.task_id
    why = str(context.get("exception") or context.get("reason") or "see the log")
    return f"Hearback: {ti.dag_id}.{task} failed in run {ti.run_id}: {why.splitlines()[0]}"


def find_connection_id() -> str | None:
    return read_settings().delivery.failure_webhook_connection


def send_notice(connection: Any, text: str) -> None:
    """Post or mail a line. Raises whatever the network or the mail server says."""
    if connection.conn_type == "smtp":
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        with SmtpHook(smtp_conn_id=connection.conn_id) as hook:
            hook.send_email_smtp(
                to=connection.extra_dejson["to_email"], subject=text[:120], html_content=text
            )
        return
    import httpx

    url = connection.host if "://" in (connection.host or "") else connection.get_uri()
    secret = connection.password
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    httpx.post(
        url, json={"text": text}, headers=headers, timeout=TIMEOUT_SECONDS
    ).raise_for_status()
