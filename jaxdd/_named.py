"""Things by a name with options in brackets, as a config has them: `"convnet(width=32)"`."""

from __future__ import annotations

import ast
from typing import Any

from jaxdd.errors import JaxddError


def parse(text: str, what: str) -> tuple[str, dict[str, Any]]:
    """`"name(option=value, ..)"` into its parts; the values are Python literals.

        parse("convnet(width=32)", "model")  # ("convnet", {"width": 32})

    Args:
      what: that is named so, for a sentence.

    Raises:
      JaxddError: if it is not written so.
    """
    name, bracket, rest = text.partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
            raise ValueError("options must be written name=value")
        if any(option.arg is None for option in call.keywords):
            raise ValueError("options must be written name=value")
        return name.strip(), {str(option.arg): ast.literal_eval(option.value) for option in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise JaxddError(f"{what} {text!r} must be written name(option=value, ..): {error}.") from error
