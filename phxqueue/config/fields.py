"""The scalar types a configuration field may have, and what is said about each field.

YAML and the original's JSON meet here: a number may be quoted (``"1000"``), a flag may be written ``0`` or
``1`` as the original does. No other coercion happens: ``true`` is not a number and ``"yes"`` is not a flag.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

_WHOLE = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)\Z")
_DECIMAL = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


class Restart(enum.Enum):
    """What it takes for a changed field to be in force."""

    LIVE = "live"  # the next reload
    RESTART = "restart"  # a restart of the processes that use it
    NEVER = "never"  # must not change once data exists: a reload that changes it is refused


def _refuse(allowed: str) -> PydanticCustomError:
    return PydanticCustomError("config_type", "expected {allowed}", {"allowed": allowed})


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 40 and _WHOLE.match(value):
        return int(value)
    raise _refuse("a whole number")


def _decimal(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refuse("a number")
    if isinstance(value, str) and not (len(value) <= 40 and _DECIMAL.match(value)):
        raise _refuse("a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _refuse("a finite number")
    return number


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value in ("0", "1"):
        return value == "1"
    raise _refuse("true or false (or 1 or 0)")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _refuse("text (quote it when it looks like a number)")


def _path_text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise _refuse("a path")


def _name(value: object) -> str:
    if isinstance(value, str) and _NAME.match(value):
        return value
    raise _refuse("a name of letters, digits, '.', '_' and '-' (at most 100, quoted when it looks like a number)")


def _host(value: object) -> str:
    allowed = "an IPv4 or IPv6 address or a host name"
    if not isinstance(value, str) or not value or len(value) > 253:
        raise _refuse(allowed)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    labels = value.rstrip(".").split(".")
    if all(label.isdigit() for label in labels) or not all(_HOST_LABEL.match(label) for label in labels):
        raise _refuse(allowed)
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Decimal = Annotated[float, BeforeValidator(_decimal)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
PathText = Annotated[str, BeforeValidator(_path_text)]
Name = Annotated[str, BeforeValidator(_name)]
Host = Annotated[str, BeforeValidator(_host)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Id = Annotated[Whole, Field(ge=1, le=2**31 - 1)]

#: What a person would call each type; also the order in which the reference looks for it.
TYPE_NAMES: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def setting(
    default: Any = PydanticUndefined,
    meaning: str = "",
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    restart: Restart = Restart.RESTART,
    pending: str = "",
    default_text: str = "",
) -> Any:
    """Declare one configuration field: default (none: required), meaning, bounds, unit, and when a change counts.

    `pending` names what a field waits for when it is accepted and checked but not yet in effect; a file that
    sets it gets a warning. `default_text` replaces the default in the reference when it is computed.
    """
    extra: dict[str, Any] = {"unit": unit, "restart": restart.value, "pending": pending, "default_text": default_text}
    return Field(default, description=meaning, ge=ge, le=le, json_schema_extra=extra)


def note(info: FieldInfo, key: str) -> str:
    """One of the remarks `setting` attached to a field: unit, restart, pending, default_text; "" when none."""
    extra = info.json_schema_extra
    value = extra.get(key, "") if isinstance(extra, dict) else ""
    return value if isinstance(value, str) else ""
