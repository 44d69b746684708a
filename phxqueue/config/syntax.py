"""From the text of a file to plain values that know where they stand.

YAML is read down to its nodes by PyYAML and turned into values here, so that every field keeps its line and the
surprises of YAML 1.1 stay out: ``on``, ``no`` and ``12:30`` are text, ``010`` is text and no octal number.
Anchors, tags, several documents and repeated keys are refused. The original's JSON, trailing commas included,
is YAML.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from phxqueue.config.problems import Problem

#: Bounds on what is read at all; far beyond any real configuration.
MAX_FILE_BYTES = 4 << 20
MAX_DEPTH = 40

FieldPath: TypeAlias = tuple[str | int, ...]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,39})\Z")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?\Z")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")


class Section(dict[str, Any]):
    """A mapping of the file, with its own place."""

    def __init__(self, path: FieldPath) -> None:
        super().__init__()
        self.path = path


@dataclass(slots=True)
class Document:
    """One file: its values (None when it could not be read), the line of every field, and the findings so far."""

    file: Path
    root: Section | None = None
    lines: dict[FieldPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    #: Sections and lists that lost a refused part: what follows from that is not reported.
    doubtful: set[FieldPath] = field(default_factory=set)

    def line(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest thing around it that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, path: FieldPath, found: str, allowed: str = "", remedy: str = "") -> None:
        self._add(path, found, allowed, remedy, warning=False)

    def warn(self, path: FieldPath, found: str, allowed: str = "", remedy: str = "") -> None:
        self._add(path, found, allowed, remedy, warning=True)

    def remove(self, path: FieldPath) -> None:
        """Take a field or list element out again, so that the rest can be used."""
        holder: Any = self.root
        for part in path[:-1]:
            holder = holder[part]
        del holder[path[-1]]
        place = len(path) - 1
        if isinstance(path[-1], int):  # the later elements move up, and their lines with them
            later = {key: line for key, line in self.lines.items() if key[:place] == path[:-1] and len(key) > place}
            for key, line in later.items():
                index = key[place]
                if isinstance(index, int) and index > path[-1]:
                    moved = (*key[:place], index - 1, *key[place + 1 :])
                    self.lines[moved] = line

    def _add(self, path: FieldPath, found: str, allowed: str, remedy: str, *, warning: bool) -> None:
        if path in self.doubtful or path[:-1] in self.doubtful:
            return
        self.problems.append(
            Problem(
                file=self.file,
                line=self.line(path),
                field=spell(path),
                found=found,
                allowed=allowed,
                remedy=remedy,
                warning=warning,
            )
        )


def spell(path: FieldPath) -> str:
    """("stores", 0, "addrs") → "stores[0].addrs"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _PLAIN_KEY.match(part) else show(part)
            text += f".{name}" if text else name
    return text


def show(value: object) -> str:
    """A value of a file as it would be written there, on one line and not long."""
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:50] + '..."'


def read_document(path: Path) -> Document:
    """Read one file. What is wrong with it stands in `problems`; `root` is None when nothing could be read."""
    document = Document(file=path)
    try:
        if path.is_dir():
            document.error((), "is a directory", "a file")
            return document
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        document.error((), f"cannot be read: {error.strerror or error}")
        return document
    return parse_document(path, data, document)


def parse_document(path: Path, data: bytes, document: Document | None = None) -> Document:
    """Parse the content of one file, which need not exist."""
    document = document or Document(file=path)
    if len(data) > MAX_FILE_BYTES:
        document.error((), f"is larger than {MAX_FILE_BYTES >> 20} MiB")
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.lines[()] = data.count(b"\n", 0, error.start) + 1
        document.error((), f"byte {error.start} is not UTF-8", remedy="save the file as UTF-8")
        return document
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented with tabs, YAML may not
    node = _compose(text, document)
    if node is not None:
        document.lines[()] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            document.root = _mapping(node, (), document)
        else:
            document.error((), "does not begin with a field", 'fields: "name: value", or a JSON object')
    return document


class _Composer(yaml.composer.Composer):
    """PyYAML's composer without aliases (a few of them can stand for gigabytes) and with bounded depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]  # of the parser, mixed in by _Loader
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(problem="tags (!...) are not allowed", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_DEPTH} levels inside one another", problem_mark=event.start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, _Composer, yaml.resolver.BaseResolver):
    """Reads nodes. Its resolver knows no implicit types: every scalar stays the text that was written."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        _Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)


def _compose(text: str, document: Document) -> yaml.Node | None:
    try:
        node = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        document.lines[()] = text.count("\n", 0, error.position) + 1
        document.error((), f"control character {text[error.position]!a}", "text")
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.lines[()] = mark.line + 1 if mark else 0
        document.error((), "malformed: " + _explain(error))
        return None
    if node is None:
        document.error((), "is empty")
    return node


def _explain(error: yaml.MarkedYAMLError) -> str:
    text = error.problem or "cannot be read"
    if "cannot start any token" in text and r"'\t'" in text:
        text = "a tab; indent with spaces"
    if error.context and error.context_mark and error.problem_mark:
        if error.context_mark.line != error.problem_mark.line:
            return f"{text} ({error.context} that begins in line {error.context_mark.line + 1})"
        return f"{text} ({error.context})"
    return text


def _mapping(node: yaml.MappingNode, path: FieldPath, document: Document) -> Section:
    section = Section(path)
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.lines.setdefault(path, key_node.start_mark.line + 1)
            document.error(path, "a field name that is itself a list or section", "names")
            continue
        key = key_node.value
        place = (*path, key)
        line = key_node.start_mark.line + 1
        if key in section:
            first = document.lines[place]
            document.lines[place] = line
            document.error(place, f"given twice, first in line {first}", remedy="keep one")
            document.lines[place] = first
            continue
        document.lines[place] = line
        section[key] = _value(value_node, place, document)
    return section


def _value(node: yaml.Node, path: FieldPath, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_element(child, (*path, index), document) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # nodes have three kinds
    text: str = node.value
    if node.style is not None:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _element(node: yaml.Node, path: FieldPath, document: Document) -> Any:
    document.lines[path] = node.start_mark.line + 1
    return _value(node, path, document)
