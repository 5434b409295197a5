"""Bytes of a page to text, also when the page lies about its character set."""

from __future__ import annotations

from w3lib.encoding import html_to_unicode


def decode_page(body: bytes, content_type: bytes | None) -> tuple[str, dict[str, int]]:
    """(the page's text, a note if its declared character set was wrong).

    The order of HTML: byte order mark, HTTP header, meta element; then UTF-8, GB18030 and
    windows-1252. The same guesses are made if the declared character set leaves holes.
    """
    header = content_type.decode("latin-1") if content_type else None
    declared, text = html_to_unicode(header, body, auto_detect_fun=_guess)
    if "\ufffd" not in text:
        return text, {}
    guess = _guess(body)
    if guess is None or guess == declared:
        return text, {}
    return body.decode(guess), {"wrong_encoding": 1}


def _guess(body: bytes) -> str | None:
    for encoding in ("utf-8", "gb18030"):
        try:
            body.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    try:
        body.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return "cp1252"
