"""Where a stem goes below the output folder: names that come from users, made safe for any file system. Pure."""

from __future__ import annotations

import re
import string
import unicodedata
from pathlib import PurePosixPath

# Linux, macOS and Windows all stop at 255 bytes or characters a name; the rest is room for the suffixes of the
# manifest and of temporary names, which are made by appending to a stem's or a folder's name.
MAX_PART_BYTES = 223

FALLBACK_PART = "_"

# What Windows forbids in a name, beside separators and control characters.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?=\.|$)", re.IGNORECASE)

# Control, format (they can turn the reading direction or hide), surrogate (not encodable), line and paragraph.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Format characters that spelling (Persian, Indic scripts) and emoji need: zero-width non-joiner and joiner.
_JOINERS = frozenset({"\u200c", "\u200d"})


def track_name(input_name: str) -> tuple[str, str]:
    """Split the name of an input file.

    Args:
        input_name: the file's name, with or without folders before it.

    Returns:
        the name without its extension, and the extension without its dot ("" where there is none).
    """
    name = re.split(r"[/\\]", input_name.rstrip("/\\"))[-1]
    stem, dot, ext = name.rpartition(".")
    if not dot or not stem.strip(". ") or not re.fullmatch(r"[A-Za-z0-9]{1,8}", ext):
        return name, ""
    return stem, ext


def stem_path(template: str, *, project: str | None, track: str, trackext: str, stem: str, ext: str, model: str) -> str:
    """Fill `template` and make the result safe.

    Args:
        template: as in `SeparationOptions.filename`: `/` between parts, fields in braces.
        project: the project's name, if any; a part that is empty without it drops out.
        track: the song's name without extension; any text.
        trackext: the extension of the input, without a dot.
        stem: the stem's name.
        ext: the extension of the output, without a dot.
        model: the model's name; `hf://` and slashes in it are made safe.

    Returns:
        a relative POSIX path, inside the folder it is joined to; each part at most 223 bytes of UTF-8, NFC.
    """
    fields = {
        "project": project or "", "track": track, "trackext": trackext, "stem": stem, "ext": ext, "model": model
    }  # fmt: skip
    # A separator inside a value must not make a folder, so parts are split before the values go in.
    filled = [_fill(part, fields) for part in template.split("/")]
    *folders, name = [part for part in filled if part.strip()] or [stem]
    return str(PurePosixPath(*(safe_part(folder) for folder in folders), _safe_file(name, ext)))


def safe_part(text: str) -> str:
    """One path part made from any text: never empty, never `.` or `..`, no separator, at most 223 bytes.

    Letters of every script stay, in NFC. Making a safe part safe again changes nothing.
    """
    return _cut(_clean(text), MAX_PART_BYTES)


def _fill(part: str, fields: dict[str, str]) -> str:
    return "".join(
        literal + (fields[name] if name is not None else "") for literal, name, _, _ in string.Formatter().parse(part)
    )


def _safe_file(name: str, ext: str) -> str:
    """As `safe_part`, but what is too long is cut before the extension."""
    clean = _clean(name)
    suffix = f".{ext}"
    if not clean.endswith(suffix):
        return _cut(clean, MAX_PART_BYTES)
    return _cut(clean.removesuffix(suffix), MAX_PART_BYTES - len(suffix.encode())) + suffix


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if char in "\t\n\r\v\f" else char for char in text)
    text = "".join(char for char in text if char in _JOINERS or unicodedata.category(char) not in _INVISIBLE)
    text = _FORBIDDEN.sub("_", text)
    # Removing a character can bring a letter and its mark together, so the normal form is taken once more.
    return _trim(unicodedata.normalize("NFC", text))


def _trim(text: str) -> str:
    """Ends that shells, Windows or file listings treat specially go; device names get an underscore in front."""
    text = re.sub(r"^[\s.-]+|[\s.]+$", "", text)
    if _RESERVED.match(text):
        text = f"_{text}"
    return text or FALLBACK_PART


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, cut between characters and never between a letter and its marks."""
    if len(text.encode()) <= limit:
        return text
    kept = text.encode()[:limit].decode(errors="ignore")
    while kept and unicodedata.combining(text[len(kept)]):
        kept = kept[:-1]
    return _trim(kept)
