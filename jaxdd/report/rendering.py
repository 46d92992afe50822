"""Templates filled with what comes from outside: in pages, cards and programs it stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jaxdd.report.tables import escaped


def render(template: str, content: Mapping[str, Any]) -> str:
    """One of `templates/`, with `content`; a name that it lacks is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdd.report"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)  # JSON is YAML
    environment.filters["md"] = escaped
    environment.filters["fenced"] = _fenced
    environment.filters["py"] = repr
    environment.filters["said"] = _said
    return environment.get_template(template).render(content)


def _fenced(command: str) -> str:
    """A block of code that its content cannot leave."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}sh\n{command}\n{fence}"


def _said(text: str) -> str:
    """Foreign text within a docstring or a comment of a program, which it cannot leave: one line, no quotes."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(kept.replace("\\", "/").replace('"', "'").split())
