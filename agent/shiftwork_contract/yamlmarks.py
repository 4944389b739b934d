"""YAML written by people, read so that every error can point at its line and column.

Only the plain core of YAML is accepted: no anchors or aliases (a few lines of them expand to gigabytes), no tags, no
merge keys, no second document, no key twice. A scalar keeps the text its author wrote next to its value, so `0644`
can still be read as the mode it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import msgspec
import yaml

from shiftwork_contract.errors import InvalidRequest

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Values of one file: each costs a thousand times its bytes in memory and time."""
MAX_SCALAR = 400
"""Characters of a number, a date or the like: YAML's base 60 takes minutes for a long one."""
T = TypeVar("T")

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = "tag:yaml.org,2002:"
_KEPT_AS_TEXT = {"str", "timestamp", "value", "merge"}


class YamlError(InvalidRequest):
    """A YAML file that cannot be used; the text starts with file:line:column, counted from 1."""

    code = "InvalidYaml"

    def __init__(self, message: str, *, file: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{file}:{line}:{column}: {message}")
        self.file, self.line, self.column, self.problem = file, line, column, message


class ErrorAt(Protocol):
    """What an error class must accept to be raised for a place in a file."""

    def __call__(self, message: str, *, file: str, line: int = 1, column: int = 1) -> InvalidRequest: ...


class Marked:
    """A YAML node that knows its file and its path from the root, such as `hooks.AfterInstall[0].timeout`."""

    def __init__(self, node: yaml.Node, file: str, path: str = "", error: ErrorAt = YamlError) -> None:
        self.node, self.file, self.path, self._error = node, file, path, error

    def fail(self, message: str) -> InvalidRequest:
        mark = self.node.start_mark
        return self._error(message, file=self.file, line=mark.line + 1, column=mark.column + 1)

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == f"{_PLAIN}null"

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def shown(self) -> str:
        """The value as an error message shows it."""
        if isinstance(self.node, yaml.ScalarNode):
            return repr(self.node.value[:80]) if self.node.value else "nothing"
        return "a list" if self.is_list else "a mapping"

    def mapping(self) -> dict[str, Marked]:
        """The members by key. An error unless this is a mapping with text keys."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fail(f"`{self.path or 'the file'}` must be a mapping (`key: value` lines), not {self.shown}")
        return {key.value: self._child(value, f".{key.value}") for key, value in self.node.value}

    def items(self) -> list[Marked]:
        """The entries of a list; none for an empty value. An error for anything else."""
        if self.is_null:
            return []
        if not self.is_list:
            raise self.fail(f"`{self.path}` must be a list (lines that start with `- `), not {self.shown}")
        return [self._child(child, f"[{index}]") for index, child in enumerate(self.node.value)]

    def text(self) -> str:
        """The text as written, quotes removed. An error for lists, mappings and empty values."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            raise self.fail(f"`{self.path}` must be text, not {self.shown}")
        return str(self.node.value)

    def texts(self) -> list[str]:
        """A list of texts; one bare text counts as a list of one."""
        return [item.text() for item in self.items()] if self.is_list or self.is_null else [self.text()]

    def scalar(self) -> object:
        """The value YAML gives to a plain scalar: text, number, true or false, nothing."""
        return plain(self)

    def _child(self, node: yaml.Node, step: str) -> Marked:
        return Marked(node, self.file, (self.path + step).lstrip("."), self._error)


def parse(text: str | bytes, file: str, *, error: ErrorAt = YamlError, lenient: bool = False) -> Marked | None:
    """The root of the only document in `text`; None where there is none. Errors are made with `error`.

    `lenient`: of a key that is there twice the last counts, and what follows the first document is not looked at.
    """
    if len(text) > MAX_BYTES:
        raise error(f"cannot read a file of {len(text)} bytes, at most {MAX_BYTES} are read", file=file)
    decoded = _decoded(text, file, error)
    try:
        _refuse_tricks(decoded, file, error)
        node = _first_node(decoded) if lenient else _Loader(decoded).get_single_node()
    except yaml.YAMLError as err:
        raise _syntax(err, file, error) from err
    if node is None:
        return None
    root = Marked(node, file, error=error)
    _refuse_odd_keys(root, twice=lenient)
    return root


def _first_node(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    node: yaml.Node | None = loader.get_node() if loader.check_node() else None
    return node


def plain(marked: Marked) -> Any:
    """The value as dicts, lists and scalars."""
    node = marked.node
    if isinstance(node, yaml.MappingNode):
        return {key: plain(value) for key, value in marked.mapping().items()}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in marked.items()]
    kind = node.tag.removeprefix(_PLAIN)
    if kind in _KEPT_AS_TEXT:
        return str(node.value)
    if len(node.value) > MAX_SCALAR:
        raise marked.fail(f"`{marked.path}`, a {kind}, has {len(node.value)} characters, at most {MAX_SCALAR} are read")
    try:
        return _Loader("").construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError) as err:
        raise marked.fail(f"`{marked.path}` cannot be read as {kind}: {marked.shown}") from err


def load(text: str | bytes, file: str, type: type[T], *, error: ErrorAt = YamlError) -> T:
    """The file as `type` (anything msgspec converts to). Every error names file, line, column and what to change."""
    root = parse(text, file, error=error)
    if root is None:
        raise error("the file is empty", file=file)
    value = plain(root)
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as err:
        problem, place = locate(root, str(err), lambda tried: msgspec.convert(tried, type))
        raise place.fail(problem) from err


def locate(root: Marked, message: str, convert: Callable[[Any], object]) -> tuple[str, Marked]:
    """What msgspec's message says, and the place it speaks of.

    msgspec writes `[...]` for whichever key of a mapping, so the key is found by converting with each one alone.
    """
    problem, _, path = message.partition(" - at ")
    in_key = path.startswith("`key` in ")
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path.removeprefix("`key` in ").strip("`").removeprefix("$"))
    place, value = root, plain(root)
    slot: list[tuple[Any, Any]] = []
    for name, index in steps:
        if isinstance(value, dict):
            key = name or _guilty_key(value, slot, plain(root), message, convert)
        else:
            key = int(index)
        members: Any = place.mapping() if isinstance(value, dict) else place.items()
        if isinstance(value, dict) and key not in value:
            break
        slot.append((isinstance(value, dict), key))
        place, value = members[key], value[key]
    if in_key and place.path:
        problem += f" (a key of `{place.path}`)"
    unknown = re.search(r"unknown field `(.+)`", problem)
    if unknown and isinstance(value, dict) and unknown[1] in value:
        place = place.mapping()[unknown[1]]
    return f"{problem} in `{place.path}`" if place.path else problem, place


def _guilty_key(
    value: dict[str, Any], slot: list[tuple[Any, Any]], whole: Any, message: str, convert: Callable[[Any], object]
) -> str:
    for key, child in value.items():
        try:
            convert(_with(whole, slot, {key: child}))
        except msgspec.ValidationError as err:
            if str(err) == message:
                return key
    return next(iter(value))


def _with(value: Any, slot: list[tuple[Any, Any]], replacement: Any) -> Any:
    if not slot:
        return replacement
    _, key = slot[0]
    copy = value.copy()
    copy[key] = _with(value[key], slot[1:], replacement)
    return copy


def _decoded(text: str | bytes, file: str, error: ErrorAt) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = text.count(b"\n", 0, err.start) + 1
        raise error(f"byte {err.start} is not UTF-8; save the file as UTF-8", file=file, line=line) from err


def _refuse_tricks(text: str, file: str, error: ErrorAt) -> None:
    depth = nodes = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        mark = event.start_mark

        def refused(message: str, mark: Any = mark) -> InvalidRequest:
            return error(message, file=file, line=mark.line + 1, column=mark.column + 1)

        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > MAX_NODES:
            raise refused(f"the file has more than {MAX_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise refused(f"lists and mappings are nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if getattr(event, "anchor", None):
            raise refused(f"anchors and aliases are not allowed (`{event.anchor}`); write the value out")
        if getattr(event, "tag", None):
            raise refused(f"tags are not allowed (`{event.tag}`); write the plain value")


def _refuse_odd_keys(marked: Marked, *, twice: bool = False) -> None:
    if isinstance(marked.node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in marked.node.value:
            place = Marked(key, marked.file, marked.path, marked._error)
            if not isinstance(key, yaml.ScalarNode):
                raise place.fail("a key must be plain text, not a list or a mapping")
            if key.value in seen and not twice:
                raise place.fail(f"the key `{key.value}` is there twice; keep one of them")
            seen.add(key.value)
    for child in _children(marked):
        _refuse_odd_keys(child, twice=twice)


def _children(marked: Marked) -> Iterator[Marked]:
    if isinstance(marked.node, yaml.MappingNode):
        yield from marked.mapping().values()
    elif marked.is_list:
        yield from marked.items()


def _syntax(err: yaml.YAMLError, file: str, error: ErrorAt) -> InvalidRequest:
    mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
    said = getattr(err, "problem", None) or getattr(err, "reason", None) or str(err)
    context = getattr(err, "context", None)
    problem = f"this is not valid YAML: {f'{context}, ' if context else ''}{said}"
    if mark is None:
        return error(problem, file=file)
    return error(problem, file=file, line=mark.line + 1, column=mark.column + 1)
