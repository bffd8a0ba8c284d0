"""The line of each key of a TOML text, which `tomllib` does not tell.

Rule: the text was accepted by `tomllib` before it comes here, so this only has to find the keys, not to judge them.
A key inside an inline table has the line of the nearest key around it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

KeyPath = tuple[str, ...]

# In this order: the three-quoted strings first, or their quotes would be taken for empty ones.
_TOKEN = re.compile(
    r"""
    (?P<text>  \"\"\"(?:\\.|[^\\])*?\"{3,5} | '''.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
  | (?P<bare>  [^\s"'#=\[\]{},.]+ )
  | (?P<comment> \#[^\n]* )
  | (?P<newline> \n )
  | (?P<mark>  [=\[\]{},.] )
  | (?P<blank> \s+? )
    """,
    re.VERBOSE | re.DOTALL,
)


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the nearest table or key around it."""
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)


def key_lines(toml: str) -> dict[KeyPath, int]:
    """The line on which each table header and each key stands, by path; the first of an array of tables."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _statements(toml):
        if statement[0] == "[":
            path = table = _key(statement)
        else:
            path = table + _key(statement[: statement.index("=")])
        lines.setdefault(path, line)
    return lines


def _statements(toml: str) -> Iterator[tuple[int, list[str]]]:
    """The statements with their first lines, each as its tokens; brackets and long strings may span lines."""
    line, depth = 1, 0
    begun, statement = 1, list[str]()
    for match in _TOKEN.finditer(toml):
        token = match.group()
        if match.lastgroup == "newline" and depth == 0 and statement:
            yield begun, statement
            statement = []
        elif match.lastgroup in ("text", "bare", "mark"):
            if not statement:
                begun = line
            statement.append(token)
            depth += (token in "[{") - (token in "]}")
        line += token.count("\n")
    if statement:
        yield begun, statement


def _key(tokens: list[str]) -> KeyPath:
    """The parts of a dotted key, unquoted."""
    return tuple(_unquoted(token) for token in tokens if token not in "[].")


def _unquoted(token: str) -> str:
    return str(tomllib.loads(f"key = {token}")["key"]) if token[0] in "\"'" else token
