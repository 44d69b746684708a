"""The scalar types a configuration field may have, and what is said about each field.

YAML and the original's JSON meet here: a number may be quoted (``"1000"``), a flag may be written ``0`` or
``1`` as the original does. No other coercion happens: ``true`` is not a number and ``"yes"`` is not a flag.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_WHOLE = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)\Z")
_DECIMAL = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?\Z")
_HANDLER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

_WORDS = {
    "_whole": "a whole number",
    "_decimal": "a number",
    "_flag": "true or false (or 1 or 0)",
    "_text": "text (quoted when it looks like a number)",
    "_path_text": "a path",
    "_name": "a name of letters, digits, '.', '_' and '-', at most 64 (quoted when it looks like a number)",
    "_host": "an IPv4 or IPv6 address or a host name",
    "_range": 'one queue id or one range of them, as in "7" or "0-4"',
    "_handler": '"module:object", as in "shop.orders:OrderHandler"',
}


class Restart(enum.Enum):
    """What it takes for a changed field to be in force."""

    LIVE = "live"  # the next reload
    RESTART = "restart"  # a restart of the processes that use it
    NEVER = "never"  # must not change once data exists: a reload that changes it is refused


class _Refused(PydanticCustomError):
    """A value of the wrong kind. What is allowed instead is told by `describe`, bounds included."""

    def __new__(cls) -> _Refused:
        return super().__new__(cls, "config", "a value of the wrong kind")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 40 and _WHOLE.match(value):
        return int(value)
    raise _Refused()


def _decimal(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Refused()
    if isinstance(value, str) and not (len(value) <= 40 and _DECIMAL.match(value)):
        raise _Refused()
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Refused()
    return number


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value in ("0", "1"):
        return value == "1"
    raise _Refused()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _Refused()


def _path_text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise _Refused()


def _name(value: object) -> str:
    if isinstance(value, str) and is_name(value):
        return value
    raise _Refused()


def is_name(text: str) -> bool:
    """Whether a text can be the name in an identity."""
    return _NAME.match(text) is not None


def _host(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 253:
        raise _Refused()
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    labels = value.rstrip(".").split(".")
    if all(label.isdigit() for label in labels) or not all(_HOST_LABEL.match(label) for label in labels):
        raise _Refused()
    return value


def _range(value: object) -> str:
    """ "7" or "0-4"; the original also documents "0-4 10-12", which it then silently ignores."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    match = _RANGE.match(value) if isinstance(value, str) else None
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise _Refused()
    return match[0]


def _handler(value: object) -> str:
    if isinstance(value, str) and _HANDLER.match(value):
        return value
    raise _Refused()


Whole = Annotated[int, BeforeValidator(_whole)]
Decimal = Annotated[float, BeforeValidator(_decimal)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
PathText = Annotated[str, BeforeValidator(_path_text)]
Name = Annotated[str, BeforeValidator(_name)]
Host = Annotated[str, BeforeValidator(_host)]
Range = Annotated[str, BeforeValidator(_range)]
HandlerPath = Annotated[str, BeforeValidator(_handler)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Id = Annotated[Whole, Field(ge=1, le=2**31 - 1)]


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

    `pending` names what this version lacks when a field is accepted and checked but has no effect; a file that
    sets it gets a warning. `default_text` replaces the default in the reference when it is computed.
    """
    extra: dict[str, Any] = {"unit": unit, "restart": restart.value, "pending": pending, "default_text": default_text}
    return Field(default, description=meaning, ge=ge, le=le, json_schema_extra=extra)


def note(info: FieldInfo, key: str) -> str:
    """One of the remarks `setting` attached to a field: unit, restart, pending, default_text; "" when none."""
    extra = info.json_schema_extra
    value = extra.get(key, "") if isinstance(extra, dict) else ""
    return value if isinstance(value, str) else ""


def describe(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field of this type may hold, as part of a sentence: "a whole number from 1 to 64"."""
    if get_origin(annotation) is Annotated:
        base, *inner = get_args(annotation)
        return describe(base, [*metadata, *inner])
    flat = [part for entry in metadata for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin is tuple:
        return "a list, each element " + describe(arguments[0])
    if origin is dict:
        return f"a section that maps {describe(arguments[0])} to {describe(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section with " + ", ".join(sorted(annotation.model_fields))
    validators = [part.func.__name__ for part in flat if isinstance(part, BeforeValidator)]
    return next((_WORDS[name] for name in validators if name in _WORDS), "a value") + _bounds(flat)


def _bounds(metadata: Sequence[Any]) -> str:
    lows = [float(str(part.ge)) for part in metadata if isinstance(part, Ge)]
    highs = [float(str(part.le)) for part in metadata if isinstance(part, Le)]
    if lows and highs:
        return f" from {max(lows):.15g} to {min(highs):.15g}"
    if lows:
        return f", at least {max(lows):.15g}"
    return f", at most {min(highs):.15g}" if highs else ""
