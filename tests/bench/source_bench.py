"""How fast each kind of source is read, what memory it takes, and which faults its tests put it to.

``make bench-sources`` pulls every kind that reads over HTTP from its tests' server on loopback, and
the kinds of files from files, by a small and a large number of records, each pull and each server
in a process of its own. Waiting for limits is left out. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.sources import MODULES, find_kind
from tests.bench.records import bench_folder, make_records
from tests.bench.run_bench import ROOT, run_line
from tests.bench.source_faults import FAULTS, find_faults, find_reason
from tests.bench.source_server import ALL, Vendor
from tests.bench.source_stocks import STOCKS, Stock

Pulled = dict[str, Any]
HEAD = ("kind", "entities", "records", "records/s", "per cpu-s", "MB before", "MB", "MB",
        "growth", "requests/1,000", "faults")  # fmt: skip


@contextmanager
def fresh_folder(name: str) -> Iterator[Path]:
    folder = bench_folder() / f"source-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pull(name: str, folder: Path, wanted: dict[str, Any], seconds: float) -> Pulled:
    """What a pull in a process of its own measured."""
    path = folder / "wanted.json"
    path.write_text(json.dumps(wanted), encoding="utf-8")
    begun, done, came = run_line(name, "tests.bench.source_pull", [str(path)], seconds)
    return {
        "records": came["rows"],
        "read": done["rows"],
        "seconds": done["seconds"],
        "cpu_seconds": done["cpu_seconds"],
        "waits_left_out": came["seconds"],
        "mb_before": begun["peak_mb"],
        "mb": done["peak_mb"],
        "entities": came["entities"],
    }


def pull_vendor(name: str, records: int, seconds: float) -> Pulled:
    """Pull so many records of a vendor from its server."""
    vendor = ALL[name]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.source_server", name, str(records)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        secrets = json.loads(json.dumps(vendor.secrets).replace("{url}", url))
        wanted = {"kind": vendor.kind, "url": url, "secrets": secrets, "more": vendor.more()}
        with fresh_folder(name) as folder:
            found = pull(f"{name} {records:,}", folder, wanted, seconds)
        told, _ = server.communicate("", timeout=60)
        return {**found, **json.loads(told)}
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def pull_stock(name: str, records: int, seconds: float) -> Pulled:
    """Pull so many records from a file."""
    stock = STOCKS[name]
    with fresh_folder(name) as folder:
        stock.write(make_records(records), folder)
        more = {"connection": None, "options": stock.options}
        wanted = {"kind": stock.kind, "url": None, "secrets": {}, "more": more}
        return {**pull(f"{name} {records:,}", folder, wanted, seconds), "requests": 0}


def measure(name: str, sizes: tuple[int, ...] | None, seconds: float) -> dict[str, Any]:
    """All pulls of one kind; one that fails is told and leaves the others their turn."""
    about: Vendor | Stock = ALL[name] if name in ALL else STOCKS[name]
    take = pull_vendor if name in ALL else pull_stock
    pulls, failed = [], ""
    for records in sizes or about.rows:
        try:
            pulls.append(take(name, records, seconds))
        except SystemExit as error:
            failed = str(error)
            break
    kind = find_kind(about.kind)
    stem = kind.pull.__module__.rpartition(".")[2]
    return {
        "name": name,
        "kind": about.kind,
        "note": about.note,
        "entities": list(kind.entities),
        "pulls": pulls,
        "failed": failed,
        "faults": find_faults(stem),
        "cannot": {fault: why for fault in FAULTS if (why := find_reason(stem, fault))},
    }


def describe(result: dict[str, Any]) -> list[str]:
    """The cells of one row."""
    pulls = result["pulls"]
    faults = f"{len(result['faults'])}/{len(FAULTS) - len(result['cannot'])}"
    if not pulls:
        return [result["name"], str(len(result["entities"])), result["failed"], *[""] * 7, faults]
    first, last = pulls[0], pulls[-1]
    return [
        result["name"],
        str(len(result["entities"])),
        " → ".join(f"{one['records']:,}" for one in (first, last)),
        f"{last['records'] / last['seconds']:,.0f}",
        f"{last['records'] / last['cpu_seconds']:,.0f}",
        *(f"{mb:.0f}" for mb in (first["mb_before"], first["mb"], last["mb"])),
        f"{last['mb'] / first['mb']:.2f}",
        f"{1000 * last['requests'] / last['records']:,.1f}" if last["requests"] else "–",
        faults,
    ]


def render(results: list[dict[str, Any]]) -> str:
    """A table in Markdown, what the faults are, and the notes."""
    rows: list[list[str]] = [list(HEAD), ["---"] * len(HEAD)]
    rows += [describe(result) for result in results]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", f"faults: {', '.join(FAULTS)}"]
    for result in results:
        known = {*result["faults"], *result["cannot"]}
        missing = [fault for fault in FAULTS if fault not in known]
        told = [result["note"], f"no test of: {', '.join(missing)}" if missing else ""]
        told += [f"FAILED: {result['failed']}"] if result["failed"] else []
        if any(told):
            lines.append(f"{result['name']}: {'; '.join(text for text in told if text)}")
    return "\n".join(lines)


def find_unmeasured() -> list[str]:
    """Kinds that this bench does not measure."""
    return sorted(set(MODULES) - {about.kind for about in (*ALL.values(), *STOCKS.values())})


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-sources", description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=[*ALL, *STOCKS])
    parser.add_argument("--rows", type=int, nargs="*", default=None, help="instead of each kind's")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one pull")
    parser.add_argument("--output", type=Path, default=None, help="JSON; default: bench folder")
    options = parser.parse_args()
    bench_folder().mkdir(parents=True, exist_ok=True)
    sizes = tuple(options.rows) if options.rows else None
    results = [measure(name, sizes, options.timeout) for name in options.kinds]
    machine = {"cores": os.cpu_count(), "system": platform.platform()}
    others = find_unmeasured()
    told = {"machine": machine, "kinds": results, "not_measured": others}
    output = options.output or bench_folder() / "sources.json"
    output.write_text(json.dumps(told, indent=1), encoding="utf-8")
    unmeasured = f"not measured: {', '.join(others)}"
    sys.stdout.write(f"{render(results)}\n{unmeasured}\n\nwritten to {output}\n")
    if any(result["failed"] for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
