"""Where the files of a source lie: a file, a folder, a pattern, or the same on an object store.

A file that is packed is unpacked beside, one at a time: ``.gz``, ``.bz2``, ``.xz``, ``.zst``, and
``.zip`` with any number of members. A file is known again by its size and its time, or by the tag
that an object store gives its content.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipelines.errors import HearbackError, UsageError
from pipelines.settings import Source
from pipelines.sources.base import PullContext, Secret
from pipelines.storage import explain_disk_errors

BLOCK_BYTES = 1 << 20
ENDINGS = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
    "excel": (".xlsx", ".xlsm"),
}
HIDDEN = (".", "_", "~$")  # how names begin that programs put beside the files of a folder
HEAL = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "HTTPClientError",
        "ConnectionClosedError", "ClientConnectorError")  # fmt: skip
SECRETS = (
    Secret(
        "login",
        "access key, if path is on an object store",
        "who runs the object store",
        is_optional=True,
    ),
    Secret("password", "its secret key", "who runs the object store", is_optional=True),
    Secret(
        "extra.endpoint_url",
        "address of the object store, if not Amazon's",
        "who runs the object store",
        is_optional=True,
    ),
)


def open_zstd(path: Path) -> IO[bytes]:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": open_zstd,
}


@dataclass(frozen=True)
class Place:
    """A file that matches. ``key``: what a position calls it; ``mark``: size, and time or tag."""

    key: str
    path: str
    mark: dict[str, Any]
    changed_at: float
    fs: Any = None  # None: the file is on this machine


@contextmanager
def open_place(source: Source, place: Place) -> Iterator[Path]:
    """The file on this machine; what came from an object store is removed afterwards."""
    if place.fs is None:
        if not os.access(place.path, os.R_OK):
            raise HearbackError(
                f"source {source.name!r}: not allowed to read {place.path}; mend its permissions"
            )
        yield Path(place.path)
        return
    with tempfile.TemporaryDirectory(prefix="hearback-") as folder:
        local = Path(folder) / PurePosixPath(place.path).name
        with explain_store_errors(source, place.key), explain_disk_errors(str(local)):
            place.fs.get_file(place.path, str(local))
        yield local


def is_remote(path: str) -> bool:
    return "://" in path


def find_places(source: Source, path: str, context: PullContext) -> list[Place]:
    """The files that match, in the order of their names; HearbackError if there is none."""
    found = (
        find_remote(source, path, context)
        if is_remote(path)
        else find_local(source.kind, path, context.folder)
    )
    if not found:
        where = "" if is_remote(path) else f" (from {context.folder})"
        raise HearbackError(
            f"source {source.name!r}: no file matches {path}{where}; mend options.path"
        )
    return sorted(found, key=lambda place: place.key)


def find_local(kind: str, path: str, folder: Path) -> list[Place]:
    whole = str(folder / path)
    if os.path.isdir(whole):
        inside = glob.iglob(os.path.join(glob.escape(whole), "**"), recursive=True)
        names = [name for name in inside if is_wanted(os.path.relpath(name, whole), kind)]
    else:
        names = glob.glob(whole, recursive=True)
    found = []
    for name in names:
        if os.path.isfile(name):
            stat = os.stat(name)
            mark = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
            found.append(Place(os.path.relpath(name, folder), name, mark, stat.st_mtime))
    return found


def find_remote(source: Source, path: str, context: PullContext) -> list[Place]:
    scheme = path.split("://", maxsplit=1)[0]
    with explain_store_errors(source, path):
        fs = open_store(source, scheme, context)
        inner = str(fs._strip_protocol(path)).rstrip("/")
        is_pattern = any(sign in inner for sign in "*?[")
        listed = fs.glob(inner, detail=True) if is_pattern else fs.find(inner, detail=True)
    if not is_pattern and inner not in listed:  # a folder
        listed = {
            name: info
            for name, info in listed.items()
            if is_wanted(name.removeprefix(inner + "/"), source.kind)
        }
    return [
        Place(f"{scheme}://{name}", name, make_mark(info), read_time(info), fs)
        for name, info in listed.items()
        if info["type"] == "file"
    ]


def is_wanted(name: str, kind: str) -> bool:
    """Whether a file of a folder, named from that folder on, holds what the kind reads."""
    parts = PurePosixPath(name.replace(os.sep, "/")).parts
    if not parts or any(part.startswith(HIDDEN) and part != ".." for part in parts):
        return False
    last = parts[-1].lower()
    for ending in UNPACKERS:
        last = last.removesuffix(ending)
    return last.endswith((*ENDINGS[kind], ".zip"))


def make_mark(info: dict[str, Any]) -> dict[str, Any]:
    """Size, and what the store says of the content, or of the time if it says no more."""
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash")
    if tag:
        return {"size": info["size"], "tag": str(tag).strip('"')}
    return {"size": info["size"], "time": str(read_time(info))}


def read_time(info: dict[str, Any]) -> float:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(name)
        if value is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else 0.0)
    return 0.0


def open_store(source: Source, scheme: str, context: PullContext) -> Any:
    """A file system of its own: one that is shared may remember an old listing."""
    import fsspec

    options: dict[str, Any] = {}
    if source.connection:
        connection = context.connection(source)
        options = dict(connection.extra)
        names = ("key", "secret") if scheme in ("s3", "s3a") else ("username", "password")
        for name, value in zip(names, (connection.login, connection.password), strict=True):
            if value:
                options[name] = value
        region = options.pop("region_name", None)
        if region:
            options["client_kwargs"] = {"region_name": region}
    return fsspec.filesystem(scheme, skip_instance_cache=True, **options)


@contextmanager
def explain_store_errors(source: Source, path: str) -> Iterator[None]:
    """What an object store said, in one line, and whether waiting may help."""
    about = f"connection {source.connection!r}" if source.connection else "AWS_… of the environment"
    try:
        yield
    except (HearbackError, NotImplementedError):
        raise
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"source {source.name!r}: {path} cannot be opened: {shorten(error)}"
        ) from None
    except PermissionError as error:
        raise HearbackError(
            f"source {source.name!r}: not allowed to read {path} ({shorten(error)}); check {about}"
        ) from error
    except FileNotFoundError as error:
        raise HearbackError(
            f"source {source.name!r}: there is no {path} ({shorten(error)}); mend options.path"
        ) from error
    except Exception as error:
        is_down = any(kind.__name__ in HEAL for kind in type(error).__mro__)
        if not (is_down or type(error).__module__.split(".")[0] in ("botocore", "aiobotocore")):
            raise
        raise HearbackError(
            f"source {source.name!r}: {path}: {shorten(error)}; check {about} and the network",
            heals=is_down,
        ) from error


def shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# packed files -----------------------------------------------------------------------------------


@contextmanager
def explain_damage(source: Source, name: str) -> Iterator[None]:
    """Turn what unpacking a damaged file raises into one line."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DamagedFile(source, name, error) from error
    except OSError as error:  # of bz2 and zstd
        if error.errno is not None:
            raise
        raise DamagedFile(source, name, error) from error
    except RuntimeError as error:  # of zipfile
        if "encrypted" not in str(error) and "password" not in str(error):
            raise
        raise HearbackError(
            f"source {source.name!r}: {name} is encrypted; pack it without a password"
        ) from error


class DamagedFile(HearbackError):
    """A file that cannot be read; others beside it can."""

    def __init__(self, source: Source, name: str, error: BaseException) -> None:
        said = shorten(error)
        super().__init__(
            f"source {source.name!r}: {name} is cut off or damaged ({said}); put it there again"
        )


def unpack(source: Source, path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """(name, file) of what a file holds: itself, or what was packed, one after another."""
    ending = path.suffix.lower()
    if ending not in (*UNPACKERS, ".zip"):
        yield name, path
        return
    with tempfile.TemporaryDirectory(prefix="hearback-") as folder:
        for inner, stream in open_members(source, path, name):
            target = Path(folder) / (PurePosixPath(inner).name or "rows")
            with (
                explain_damage(source, inner if ending == ".zip" else name),
                explain_disk_errors(str(target)),
                stream() as packed,
                open(target, "wb") as sink,
            ):
                shutil.copyfileobj(packed, sink, BLOCK_BYTES)
            yield from unpack(source, target, inner)
            target.unlink()


def open_members(source: Source, path: Path, name: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, what opens it) of every file in a packed one."""
    ending = path.suffix.lower()
    if ending in UNPACKERS:
        yield name[: -len(ending)], lambda: UNPACKERS[ending](path)
        return
    with explain_damage(source, name):
        archive = zipfile.ZipFile(path)
    with archive:
        for member in archive.infolist():
            if not member.is_dir() and is_wanted(member.filename, source.kind):
                yield f"{name}/{member.filename}", lambda: archive.open(member)  # noqa: B023
