"""YAML read within limits: what a text can cost is bounded before any of it is built."""

from __future__ import annotations

import unicodedata
from typing import Any

import yaml
from yaml.error import MarkedYAMLError

MAX_BYTES = 1 << 20  # of a file
MAX_DEPTH = 32
MAX_NODES = 20_000  # aliases written out
MAX_CHARS = MAX_BYTES  # of all scalars, aliases written out
MAX_KEY = 256  # characters of a key
MAX_PLAIN = 64  # characters of a number, a date or a word like true

_TEXT = "tag:yaml.org,2002:str"


class OverLimit(MarkedYAMLError):
    """YAML that is not read: it is over a limit, or holds what must not reach a terminal."""

    @property
    def line(self) -> int:
        """Where, from 1."""
        return self.problem_mark.line + 1 if self.problem_mark else 1


def read_yaml(text: str) -> Any:
    """The values of a document of at most MAX_BYTES; None for an empty one. Raises as ``read_nodes`` does."""
    return values_of(read_nodes(text))


def read_nodes(text: str) -> yaml.Node | None:
    """The document's nodes, which know their lines; None for an empty one.

    Raises yaml.YAMLError for what is no YAML, and OverLimit, which is one.
    """
    loader = _Loader(text)
    root = loader.get_single_node()
    if root is not None:
        _check_written_out(root)
    return root


def values_of(root: yaml.Node | None) -> Any:
    """What the nodes stand for; what is merged into a mapping is among its nodes afterwards.

    Raises yaml.YAMLError.
    """
    return None if root is None else _Loader("").construct_document(root)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with limits that hold while nodes are made; all its errors are YAML's."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        self._nodes += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise _too_deep(mark)
        if self._nodes > MAX_NODES:
            raise _too_many(mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            self._check_length(node, key=isinstance(parent, yaml.MappingNode) and index is None)
        return node

    @staticmethod
    def _check_length(node: yaml.ScalarNode, *, key: bool) -> None:
        length = len(node.value)
        if key and length > MAX_KEY:
            raise _over(f"a key of {length} > {MAX_KEY} characters", node.start_mark)
        # Reading a number may take the square of its length: PyYAML's base 60 (1:1:1:…) has no limit.
        if node.tag != _TEXT and length > MAX_PLAIN:
            kind = node.tag.rpartition(":")[2]
            raise _over(
                f"{length} > {MAX_PLAIN} characters that YAML reads as {kind}; put a text in quotes",
                node.start_mark,
            )

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, ArithmeticError) as error:  # an impossible date, a number that is too large
            raise MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error
        except (LookupError, AttributeError) as error:  # how PyYAML fails at `!!bool x`, `!!timestamp x`
            problem = f"this cannot be read as {node.tag.rpartition(':')[2]}"
            raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def _check_written_out(root: yaml.Node) -> None:
    """Refuse what would never end, fill the memory or reach a terminal as an escape; aliases are followed."""
    waiting, seen, chars = [(root, 1)], 0, 0
    checked: set[int] = set()  # an alias's text is read once
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise _too_deep(node.start_mark)
        if seen > MAX_NODES:
            raise _too_many(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]
        else:
            chars += len(node.value)
            if chars > MAX_CHARS:
                raise _over(f"over {MAX_CHARS} characters, aliases written out", node.start_mark)
            if id(node) not in checked and (bad := next(filter(_is_control, node.value), None)):
                raise _over(f"the character {bad!r} is not allowed in a text", node.start_mark)
            checked.add(id(node))


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r"


def _too_deep(mark: Any) -> OverLimit:
    return _over(f"nested deeper than {MAX_DEPTH} levels, or an alias that holds itself", mark)


def _too_many(mark: Any) -> OverLimit:
    return _over(f"over {MAX_NODES} values, aliases written out", mark)


def _over(problem: str, mark: Any) -> OverLimit:
    return OverLimit(problem=problem, problem_mark=mark)
