"""Work out the CSS of a drawing that resvg does not know: variables, and colors for light and dark pages."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_STYLE = "{http://www.w3.org/2000/svg}style"
_DEFINED = re.compile(r"(--[\w-]{1,64})\s*:\s*([^;{}]{1,200})")
_USED = re.compile(r"var\(\s*(--[\w-]{1,64})\s*(?:,\s*((?:[^()]|\([^()]*\))*))?\)")
_LIGHT_OR_DARK = re.compile(r"light-dark\(\s*((?:[^(),]|\([^()]*\))+),(?:[^()]|\([^()]*\))*\)")
_DARK = re.compile(r"@media[^{}]{0,200}prefers-color-scheme\s*:\s*dark[^{}]{0,200}\{(?:[^{}]|\{[^{}]*\})*\}")
_MOST_ROUNDS = 8
"""Definitions within definitions that are followed."""
_MOST_CHARS = 1 << 20


def resolve(root: ElementTree.Element) -> None:
    """Write values in place of `var()` and `light-dark()`, as on a light page; rules for dark ones go."""
    sheets = [element for element in root.iter(_STYLE) if element.text]
    for sheet in sheets:
        sheet.text = _DARK.sub("", sheet.text or "")
    styles = [sheet.text or "" for sheet in sheets]
    styles += [style for element in root.iter() if "--" in (style := element.get("style", ""))]
    values = {name: value.strip() for style in styles for name, value in _DEFINED.findall(style)}
    for sheet in sheets:
        sheet.text = _resolved(sheet.text or "", values)
    for element in root.iter():
        for name, value in element.items():
            if "var(" in value or "light-dark(" in value:
                element.set(name, _resolved(value, values))


def _resolved(text: str, values: dict[str, str]) -> str:
    for _ in range(_MOST_ROUNDS):
        # Values that hold each other twice would grow without bound.
        if len(text) > _MOST_CHARS or not ("var(" in text or "light-dark(" in text):
            break
        text = _USED.sub(lambda match: values.get(match[1], (match[2] or "").strip()), text)
        text = _LIGHT_OR_DARK.sub(lambda match: match[1].strip(), text)
    return text
