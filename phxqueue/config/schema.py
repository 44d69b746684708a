"""Hold a document against a model, and tell every difference with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from phxqueue.config.fields import describe, note
from phxqueue.config.syntax import Document, FieldPath, Section, show

#: A section with more fields is not spelled out in a message.
_LISTED_FIELDS = 16


class Block(BaseModel):
    """A section of a file: immutable, unknown fields refused.

    `obsolete` lists the original's fields that mean nothing here, with the reason; files that have them load
    with a warning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    obsolete: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _screen(cls, data: Any, info: ValidationInfo) -> Any:
        """Report what pydantic would not say well and pass on the rest."""
        if isinstance(data, Section) and isinstance(info.context, Document):
            return screen(cls, data, info.context)
        return data


BlockT = TypeVar("BlockT", bound=Block)


def screen(model: type[Block], section: Section, document: Document) -> dict[str, Any]:
    """The known fields of a section that have a value; unknown, obsolete, empty and pending ones are reported."""
    kept: dict[str, Any] = {}
    for name, value in section.items():
        place = (*section.path, name)
        info = model.model_fields.get(name)
        if name in model.obsolete:
            document.warn(place, "ignored", remedy=model.obsolete[name])
        elif info is None:
            _report_unknown(model, name, place, document)
        elif value is None:
            document.error(place, "no value", describe(info.annotation, info.metadata), "write one or remove the field")
        else:
            kept[name] = value
            if (pending := note(info, "pending")) and value:
                document.warn(place, f"without effect: this version has no {pending}")
    return kept


def _report_unknown(model: type[Block], name: str, place: FieldPath, document: Document) -> None:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()  # the original also takes lowerCamelCase
    close = difflib.get_close_matches(snake, model.model_fields, n=1)
    if close:
        document.error(place, "unknown field", remedy=f'did you mean "{close[0]}"?')
    else:
        fields = sorted(model.model_fields)
        allowed = ", ".join(fields) if len(fields) <= _LISTED_FIELDS else ""
        document.error(place, "unknown field", allowed, "" if allowed else "docs/configuration.md lists the fields")


def validate(model: type[BlockT], document: Document) -> BlockT | None:
    """Make the model of a document, or of as much of it as can be used; the findings go to the document.

    A refused field that has a default is reported and its default taken, so that the checks between fields and
    files still find what else is wrong. None: something required is missing or refused.
    """
    if document.root is None:
        return None
    try:
        return model.model_validate(document.root, context=document)
    except ValidationError as error:
        failures = [tuple(failure["loc"]) for failure in error.errors(include_url=False)]
    reported = {problem.field for problem in document.problems}
    fresh = Document(file=document.file, lines=document.lines)
    repairable = True
    for path in reversed(failures):  # backwards: list elements are removed by index
        place, key = (path[:-1], True) if path[-1:] == ("[key]",) else (path, False)
        value = _value_at(document.root, place)
        found = "missing" if value is None else f"found {show(path[-2] if key else value)}"
        slot = _slot(model, place)
        fresh.error(place, found, _slot(model, place[:-1]).allowed(key=True) if key else slot.allowed())
        if value is None or not slot.optional:
            repairable = False
        elif repairable:
            document.remove(place)
            document.doubtful.add(place[:-1])
    document.problems += [problem for problem in reversed(fresh.problems) if problem.field not in reported]
    if not repairable:
        return None
    try:
        return model.model_validate(document.root, context=Document(file=document.file))
    except ValidationError:  # what a field falls back to is reported above; this is about several at once
        return None


@dataclass(frozen=True, slots=True)
class _Slot:
    """What the model says of one place in a file."""

    annotation: Any
    metadata: Sequence[Any] = ()
    optional: bool = False  # the rest makes sense without it

    def inside(self, part: str | int) -> _Slot:
        annotation = _bare(self.annotation)
        if _is_block(annotation):
            info = annotation.model_fields[str(part)]
            return _Slot(info.annotation, info.metadata, not info.is_required())
        element = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
        return _Slot(element, (), not _is_block(_bare(element)))

    def allowed(self, *, key: bool = False) -> str:
        return describe(get_args(self.annotation)[0] if key else self.annotation, self.metadata)


def _slot(model: type[Block], path: tuple[str | int, ...]) -> _Slot:
    slot = _Slot(model)
    for part in path:
        slot = slot.inside(part)
    return slot


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Block)


def _value_at(root: Section, path: FieldPath) -> Any:
    value: Any = root
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
