"""``hearback try``: which source is meant, and its preview as lines or as JSON."""

from __future__ import annotations

import glob
import json
import shlex
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pipelines.assignments import parse_assignments, read_options_given
from pipelines.errors import HearbackError, UsageError
from pipelines.guess import guess_source, spell_out_json
from pipelines.preview import preview_source
from pipelines.preview_text import show_preview
from pipelines.settings import Settings, Source, load_settings
from pipelines.wording import Language, find_language

PAGE = {"sitemap": False, "max_pages": 1, "max_depth": 0, "delay": 0.0, "max_minutes": 1.0}


def try_all(
    config: Path,
    what: str | None,
    name: str | None,
    given: Iterable[str],
    *,
    most: int,
    shown: int,
    as_json: bool,
    language: Language | None,
    tell: Callable[[str], None],
) -> list[str]:
    """Preview what is meant; returns the faults of sources that could not be previewed."""
    spoken, faults = find_language(language), []
    settings = load_settings(config) if config.is_file() else Settings(path=config.absolute())
    with tempfile.TemporaryDirectory(prefix="hearback-try-") as folder:
        sources = choose_sources(settings, what, name, given, Path(folder))
        for source in sources:
            try:
                found = preview_source(settings, source, most=most)
            except HearbackError as error:
                if len(sources) == 1:
                    raise
                faults.append(error.message)
                continue
            if as_json:
                tell(json.dumps(found.to_dict(), ensure_ascii=False, default=str))
                continue
            advice = advise(settings, source, what)
            for line in show_preview(found, spoken, most=shown, advice=advice):
                tell(line)
            tell("")
    return faults


def choose_sources(
    settings: Settings, what: str | None, name: str | None, given: Iterable[str], folder: Path
) -> list[Source]:
    """The sources that are meant: one of the configuration, a file, a page, or all enabled ones."""
    options = read_options_given(parse_assignments(given))
    if what and name:
        raise UsageError("give a file, an address or --source, not both")
    if name:
        return [override(settings.source(name), options)]
    if what and what.startswith(("http://", "https://")):
        return [Source(name="page", kind="web_reviews", base_url=what, options={**PAGE, **options})]
    if what:
        path = Path(what).absolute()
        known = find_configured(settings, path)
        if known:
            return [override(known, {**options, "path": str(path)})]
        lines = spell_out_json(path, folder) if path.is_file() else path
        return [guess_source(lines, options)]
    found = [override(source, options) for source in settings.sources if source.enabled]
    if not found:
        raise UsageError("give a file or an address, or a configuration with sources")
    return found


def override(source: Source, options: dict[str, object]) -> Source:
    return source.model_copy(update={"options": {**source.options, **options}})


def find_configured(settings: Settings, path: Path) -> Source | None:
    """The source of the configuration that reads a file."""
    for source in settings.sources:
        pattern = source.options.get("path")
        if isinstance(pattern, str) and source.kind in ("csv", "jsonl", "parquet", "excel"):
            matches = glob.glob(str(settings.folder / pattern), recursive=True)
            if path.resolve() in {Path(match).resolve() for match in matches}:
                return source
    return None


def advise(settings: Settings, source: Source, what: str | None) -> str:
    """The next command to type."""
    if source.name in {known.name for known in settings.sources}:
        return "hearback doctor"
    where = f"base_url={what}" if source.kind == "web_reviews" else f"path={what}"
    return f"hearback add {source.kind} --set {shlex.quote(where)}"
