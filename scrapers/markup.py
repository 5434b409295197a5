"""Structured data of a page as one kind of tree, whatever its notation.

JSON-LD, microdata, RDFa and microformats are read through extruct; each becomes ``Node`` objects
with plain type and property names (``Review``, ``reviewBody``), so that reviews are looked for only
once.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import lxml.etree
import lxml.html
from extruct.jsonld import JsonLdExtractor
from extruct.w3cmicrodata import MicrodataExtractor

Markup = Literal["json-ld", "microdata", "rdfa", "microformats", "selectors"]
MAX_DEPTH = 40
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, lxml.etree.LxmlError)


@dataclass(eq=False)
class Node:
    """One item of structured data; property values are str, numbers or Nodes."""

    types: frozenset[str] = frozenset()
    id: str | None = None
    props: dict[str, list[Any]] = field(default_factory=dict)
    element: Any = None  # the HTML element, for microdata

    @property
    def is_reference(self) -> bool:
        return self.id is not None and not self.props


Path = tuple[tuple[str, Node], ...]  # (property, the node that has it), from the top


def plain_name(name: str) -> str:
    """The last part of a type or property: http://schema.org/Review, schema:Review → Review."""
    return re.split(r"[/#:]", name.rstrip("/"))[-1]


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _types(value: Any) -> frozenset[str]:
    return frozenset(plain_name(str(name)) for name in as_list(value) if name)


def parse_tree(text: str) -> Any | None:
    """The HTML tree of a decoded page, or None if there is nothing to parse."""
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)  # type: ignore[no-untyped-call]
    body = text.encode("utf-8", "replace")
    try:
        return lxml.html.document_fromstring(body, parser)  # type: ignore[no-untyped-call]
    except (lxml.etree.LxmlError, ValueError):
        return None


def read_json_ld(tree: Any) -> tuple[list[Node], list[str]]:
    """(the top nodes of every JSON-LD script, notes on scripts that could not be read)."""
    nodes: list[Node] = []
    notes: list[str] = []
    for script in tree.iter("script"):
        kind = (script.get("type") or "").split(";")[0].strip().lower()
        if kind != "application/ld+json":
            continue
        script.set("type", kind)
        try:
            found = JsonLdExtractor().extract_items(script)  # type: ignore[no-untyped-call]
        except UNREADABLE:
            found, note = salvage_json(script.text or "")
            notes.append(note)
        nodes.extend(_json_node(item, 0) for item in found if isinstance(item, dict))
    return resolve_references(nodes), notes


def salvage_json(text: str) -> tuple[list[Any], str]:
    """(what can be read of broken JSON-LD, a note that says so).

    Tries entity-escaped text and several objects in a row first, then each Review by itself.
    """
    for candidate in (text, html.unescape(text)):
        whole = _read_objects(candidate)
        if whole is not None:
            return whole, "json_ld_repaired"
    found: list[Any] = []
    decoder = json.JSONDecoder(strict=False)
    end = 0
    for match in re.finditer(r'"@type"\s*:\s*\[?\s*"(?:\w+:|https?://schema\.org/)?Review"', text):
        if match.start() < end:
            continue
        begin = match.start()
        for _ in range(12):
            begin = text.rfind("{", end, begin)
            if begin < 0:
                break
            try:
                item, stop = decoder.raw_decode(text, begin)
            except ValueError:
                continue
            if stop > match.end():
                found.append(item)
                end = stop
                break
    if found:
        return found, "json_ld_salvaged"
    is_about_reviews = re.search(r"\bReview\b|reviewBody", text) is not None
    return found, "reviews_unreadable" if is_about_reviews else "json_ld_unreadable"


def _read_objects(text: str) -> list[Any] | None:
    """Objects that follow one another, or None if any of them is broken."""
    decoder = json.JSONDecoder(strict=False)
    found: list[Any] = []
    position = 0
    while True:
        gap = re.compile(r"[\s;,\ufeff\x00]*(?:<!--|-->|<!\[CDATA\[|\]\]>)?[\s;,]*").match(
            text, position
        )
        position = gap.end() if gap else position
        if position >= len(text):
            return found
        try:
            item, position = decoder.raw_decode(text, position)
        except ValueError:
            return None
        found.extend(as_list(item))


def _json_node(item: dict[str, Any], depth: int) -> Node:
    types = _types(item.get("@type", item.get("type")))
    own = item.get("@id", item.get("id"))
    node = Node(types, own if isinstance(own, str) and own else None)
    if depth > MAX_DEPTH:
        return node
    for key, value in item.items():
        if key in ("@type", "@id", "@context"):
            continue
        name = "@graph" if key == "@graph" else plain_name(key)
        for entry in as_list(value):
            for flat in as_list(entry):
                if isinstance(flat, dict):
                    if "@value" in flat:
                        node.props.setdefault(name, []).append(flat["@value"])
                    elif set(flat) == {"@list"}:
                        node.props.setdefault(name, []).extend(
                            _json_node(part, depth + 1) if isinstance(part, dict) else part
                            for part in as_list(flat["@list"])
                        )
                    else:
                        node.props.setdefault(name, []).append(_json_node(flat, depth + 1))
                elif flat is not None:
                    node.props.setdefault(name, []).append(flat)
    return node


def read_microdata(tree: Any, url: str) -> tuple[list[Node], list[str]]:
    """(the top items of a page's microdata, notes)."""
    try:
        reader = MicrodataExtractor(add_html_node=True)  # type: ignore[no-untyped-call]
        items = reader.extract_items(tree, url)  # type: ignore[no-untyped-call]
    except UNREADABLE:
        return [], ["microdata_unreadable"]
    return [_microdata_node(item) for item in items if isinstance(item, dict)], []


def _microdata_node(item: dict[str, Any]) -> Node:
    node = Node(_types(item.get("type")), item.get("id"), element=item.get("htmlNode"))
    for name, value in (item.get("properties") or {}).items():
        node.props[plain_name(name)] = [
            _microdata_node(entry) if isinstance(entry, dict) else entry for entry in as_list(value)
        ]
    if not node.props and item.get("value"):
        node.props["name"] = [item["value"]]
    return node


def read_rdfa(text: str, url: str) -> tuple[list[Node], list[str]]:
    """(the nodes of a page's RDFa that no other node points to, notes)."""
    from extruct.rdfa import RDFaExtractor
    from extruct.utils import parse_xmldom_html

    try:
        body = text.encode("utf-8", "replace")
        tree = parse_xmldom_html(body, encoding="utf-8")  # type: ignore[no-untyped-call]
        found = RDFaExtractor().extract_items(tree, url)  # type: ignore[no-untyped-call]
        items = list(found)
    except UNREADABLE:
        return [], ["rdfa_unreadable"]
    nodes = []
    for item in items:
        node = Node(_types(item.get("@type")), item.get("@id"))
        for name, entries in item.items():
            if name.startswith("@"):
                continue
            node.props[plain_name(name)] = [
                entry["@value"] if "@value" in entry else Node(id=entry.get("@id"))
                for entry in entries
                if isinstance(entry, dict)
            ]
        nodes.append(node)
    return resolve_references(nodes), []


# What microformats call a thing, and schema.org.
MICROFORMATS = {"h-review": "Review", "h-review-aggregate": "AggregateRating",
                "h-product": "Product", "h-card": "Person"}  # fmt: skip
MICROFORMAT_NAMES = {
    "item": "itemReviewed", "reviewed": "datePublished", "published": "datePublished",
    "best": "bestRating", "worst": "worstRating", "content": "reviewBody", "uid": "identifier",
    "reviewer": "author", "category": "keywords",
}  # fmt: skip


def read_microformats(text: str, url: str) -> tuple[list[Node], list[str]]:
    """(the top items of a page's microformats, old and new ones, notes)."""
    from extruct.microformat import MicroformatExtractor

    try:
        items = MicroformatExtractor().extract_items(text, url)  # type: ignore[no-untyped-call]
    except UNREADABLE:
        return [], ["microformats_unreadable"]
    return [_microformat_node(item, 0) for item in items if isinstance(item, dict)], []


def _microformat_node(item: dict[str, Any], depth: int) -> Node:
    kinds = [str(kind) for kind in as_list(item.get("type"))]
    node = Node(frozenset(MICROFORMATS.get(kind, kind) for kind in kinds), item.get("id"))
    if depth > MAX_DEPTH:
        return node
    for name, values in (item.get("properties") or {}).items():
        known = MICROFORMAT_NAMES.get(name, name)
        for value in as_list(values):
            if not isinstance(value, dict):
                node.props.setdefault(known, []).append(value)
            elif "type" in value:
                inner = _microformat_node(value, depth + 1)
                inner.props.setdefault("name", [value.get("value") or ""])
                if name != "name":  # the name of what is reviewed is not the review's
                    node.props.setdefault(known, []).append(inner)
            else:  # the text of an element, beside its HTML
                node.props.setdefault(known, []).append(value.get("html") or value.get("value"))
    node.props.setdefault("children", []).extend(
        _microformat_node(child, depth + 1)
        for child in as_list(item.get("children"))
        if isinstance(child, dict)
    )
    return node


def resolve_references(nodes: list[Node]) -> list[Node]:
    """Put each node in the place of the references to it; the nodes themselves are returned."""
    by_id: dict[str, Node] = {}
    for node, _ in walk(nodes):
        if node.id and node.props:
            by_id.setdefault(node.id, node)
    for node, _ in walk(nodes):
        for values in node.props.values():
            for position, value in enumerate(values):
                if isinstance(value, Node) and value.is_reference:
                    values[position] = by_id.get(value.id or "", value)
    return nodes


def walk(nodes: list[Node]) -> Iterator[tuple[Node, Path]]:
    """Every node in and under nodes, in document order, with its ancestors, nearest last.

    A node that is reached on several ways comes once for each, but what is under it only the first
    time: graphs in which everything refers to everything stay small, and circles end.
    """
    entered: set[int] = set()
    waiting: list[tuple[Node, Path]] = [(node, ()) for node in reversed(nodes)]
    while waiting:
        node, path = waiting.pop()
        yield node, path
        if id(node) in entered or len(path) > MAX_DEPTH:
            continue
        entered.add(id(node))
        inner = [
            (value, (*path, (name, node)))
            for name, values in node.props.items()
            for value in values
            if isinstance(value, Node)
        ]
        waiting.extend(reversed(inner))


def first_text(node: Node | None, *names: str) -> str | None:
    """The first property of names that holds text (a Node counts by its name or value)."""
    if node is None:
        return None
    for name in names:
        for value in node.props.get(name, ()):
            if isinstance(value, bool):
                continue
            shown = (
                first_text(value, "name", "text", "value", "url")
                if isinstance(value, Node)
                else value
            )
            text = "" if shown is None else str(shown).strip()
            if text:
                return text
    return None
