"""How fast the whole line is, beside the same work done the straightforward way.

``make bench`` runs 100,000 and 1,000,000 records through both lines, then adds 2,000 new records to
a short and to a long history (``--rows`` and ``--histories`` choose others). Prints tables and
writes a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import MARK
from tests.bench.records import bench_folder, make_records

ROOT = Path(__file__).parents[2]
COUNT_NEW = 2_000
NEW_DAYS = 2  # what is new was said in the last two days
NOT_COUNTED = ("train",)  # once for an installation, on both sides
CONFIG = """\
[project]
home = "home"
time_zone = "Asia/Shanghai"

[[sources]]
name = "app"
kind = "jsonl"
[sources.options]
path = "records/*.jsonl"
entity = "feedback"
columns = { source_record_id = "id", body = "text", created_at = "created", rating = "stars", source_customer_id = "user", product = "product" }
constants = { channel = "app_store", rating_min = 1, rating_max = 5 }
"""  # noqa: E501
TEAM = """
[[teams]]
name = "{name}"
needs = {needs}
members = [{members}]
"""
TEAMS = {"sales": ["sales", "other"], "technical": ["technical"], "after_sales": ["after_sales"]}


def make_project(folder: Path, records: list[Path]) -> None:
    """A fresh configuration over links to the records."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "records").mkdir(parents=True)
    for path in records:
        (folder / "records" / path.name).symlink_to(path)
    people = ", ".join(
        f'{{ name = "Agent {n}", email = "agent{n}@example.com", daily_capacity = 34 }}'
        for n in range(10)
    )
    teams = "".join(
        TEAM.format(name=name, needs=json.dumps(needs), members=people)
        for name, needs in TEAMS.items()
    )
    (folder / "hearback.toml").write_text(CONFIG + teams, encoding="utf-8")


def run_line(name: str, module: str, arguments: list[str], seconds: float) -> list[dict[str, Any]]:
    """Run a line in a process of its own and collect what it measured, showing each step."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "BENCH_BEGAN": repr(time.time()),
        "PYTHONPATH": str(ROOT),
        "GX_ANALYTICS_ENABLED": "false",
        "TQDM_DISABLE": "1",
    }
    log = bench_folder() / f"{name.replace(' ', '_').replace(',', '')}.log"
    command = [sys.executable, "-m", module, *arguments]
    steps: list[dict[str, Any]] = []
    with open(log, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        deadline = time.monotonic() + seconds
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(MARK):
                    steps.append(json.loads(line.removeprefix(MARK)))
                    say(f"  {name}: {describe(steps[-1])}")
                if time.monotonic() > deadline:
                    raise SystemExit(f"{name}: not done after {seconds:.0f} s; see {log}")
            if process.wait(timeout=30):
                tail = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
                raise SystemExit(f"{name}: failed: {' '.join(tail)} (see {log})")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return steps


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def describe(step: dict[str, Any]) -> str:
    return (
        f"{step['step']:<22} {step['seconds']:7.2f} s {step['cpu_seconds']:7.2f} cpu-s "
        f"{step['peak_mb']:6.0f} MB"
    )


def total(steps: list[dict[str, Any]], key: str, without: tuple[str, ...] = NOT_COUNTED) -> float:
    return sum(step[key] for step in steps if step["step"] not in without)


def compare_lines(rows: int, seconds: float) -> dict[str, Any]:
    """Both lines over the same records, ours first."""
    say(f"making {rows:,} records")
    records = make_records(rows)
    folder = bench_folder() / f"line-{rows}"
    make_project(folder / "ours", [records])
    ours = run_line(f"hearback {rows:,}", "tests.bench.our_line", [str(folder / "ours")], seconds)
    tasks = next(step["rows"] for step in ours if step["step"] == "follow_up")
    shutil.rmtree(folder / "plain", ignore_errors=True)
    plain = run_line(
        f"plain {rows:,}",
        "tests.bench.plain_line",
        [str(records), str(folder / "plain"), str(tasks)],  # as many tasks on its lists as on ours
        seconds,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return {"rows": rows, "hearback": ours, "plain": plain}


def compare_histories(histories: list[int], seconds: float) -> dict[str, Any]:
    """What COUNT_NEW new records cost on top of each history."""
    found = {}
    for rows in histories:
        folder = bench_folder() / f"history-{rows}"
        make_project(folder, [make_records(rows)])
        name = f"history {rows:,}"
        run_line(name, "tests.bench.our_line", [str(folder)], seconds)
        new = make_records(COUNT_NEW, prefix="n", seed=2, days=NEW_DAYS)
        (folder / "records" / new.name).symlink_to(new)
        found[rows] = run_line(
            f"{COUNT_NEW:,} new on {rows:,}", "tests.bench.our_line", [str(folder)], seconds
        )
        shutil.rmtree(folder, ignore_errors=True)
    return {"count_new": COUNT_NEW, "histories": found}


def render_lines(result: dict[str, Any]) -> str:
    """A table of both lines, step by step."""
    rows = result["rows"]
    lines = [
        f"{rows:,} records          Hearback                       plain",
        "step                        s   cpu-s  peak MB           s   cpu-s  peak MB",
    ]
    ours = {step["step"]: step for step in result["hearback"]}
    plain = {step["step"]: step for step in result["plain"]}
    for name in dict.fromkeys([*ours, *plain]):
        cells = [f"{name:<22}"]
        for side in (ours, plain):
            step = side.get(name)
            cells.append(
                f"{step['seconds']:8.2f}{step['cpu_seconds']:8.2f}{step['peak_mb']:9.0f}"
                if step
                else f"{'-':>8}{'-':>8}{'-':>9}"
            )
        lines.append("   ".join(cells) + (" (not counted)" if name in NOT_COUNTED else ""))
    cells = [f"{'all':<22}"]
    for steps in (result["hearback"], result["plain"]):
        peak = max(step["peak_mb"] for step in steps)
        cells.append(f"{total(steps, 'seconds'):8.2f}{total(steps, 'cpu_seconds'):8.2f}{peak:9.0f}")
    lines.append("   ".join(cells))
    wall, cpu = (
        total(result["plain"], key) / total(result["hearback"], key)
        for key in ("seconds", "cpu_seconds")
    )
    speed = rows / total(result["hearback"], "seconds")
    lines.append(
        f"{speed:,.0f} records/s; {wall:.1f} times the plain line's speed "
        f"({cpu:.1f} times by processor time)"
    )
    return "\n".join(lines)


def render_histories(result: dict[str, Any]) -> str:
    """What new records cost on each history, and how much more on the longest than the shortest."""
    histories = result["histories"]
    names = [step["step"] for step in next(iter(histories.values()))]
    lines = [
        f"{result['count_new']:,} new records on top of   "
        + "   ".join(f"{f'{rows:,}':>16}" for rows in histories),
        "step                     " + "   ".join(f"{'s':>8}{'cpu-s':>8}" for _ in histories),
    ]
    for place, name in enumerate(names):
        cells = [
            f"{steps[place]['seconds']:8.2f}{steps[place]['cpu_seconds']:8.2f}"
            for steps in histories.values()
        ]
        lines.append(f"{name:<22}   " + "   ".join(cells))
    first, *_, last = (total(steps, "cpu_seconds", ("publish",)) for steps in histories.values())
    lines.append(f"without publish's copy, the long history costs {last / first:.2f} times as much")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--histories", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one line")
    parser.add_argument("--output", type=Path, default=None, help="JSON; default: bench folder")
    options = parser.parse_args()
    bench_folder().mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "lines": [compare_lines(rows, options.timeout) for rows in options.rows],
    }
    if len(options.histories) > 1:
        result["increment"] = compare_histories(options.histories, options.timeout)
    tables = [render_lines(line) for line in result["lines"]]
    if "increment" in result:
        tables.append(render_histories(result["increment"]))
    output = options.output or bench_folder() / "bench.json"
    output.write_text(json.dumps(result, indent=1), encoding="utf-8")
    sys.stdout.write("\n\n".join(tables) + f"\n\nwritten to {output}\n")


if __name__ == "__main__":
    main()
