"""The shape of the code, as ARCHITECTURE.md tells it: which rooms there are, who may import whom, what stands where.

The map in ARCHITECTURE.md is read from bottom to top: a room imports only from rooms that stand above it there.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "stratavore"

LONGEST_FILE = 400
LONG_FILES: Mapping[str, str] = {}
"""Files that may be longer, each with the reason."""

LARGEST_SHIM = 1540
"""Lines of code of the processes that hold terminals, which are never upgraded in place (ADR 2)."""

OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "aiohttp": ("api", "ledger"),
    "apsw": ("store",),
    "click": ("cli",),
    "jwt": ("auth",),
    "limits": ("auth",),
    "prometheus_client": ("metrics",),
    "psutil": ("process",),
    "pyte": ("terminal",),
    "pythonjsonlogger": ("logs",),
    "telegram": ("channels",),
    "tomlkit": ("config",),
    "zstandard": ("archive",),
}
"""The rooms of each outside library. A new library is a new row."""

EVERYWHERE = {"msgspec"}
"""Its Structs travel through every room. That it stays out of the shim and of the start of the CLI is tested there."""

FOREIGN_SQL = {
    "agents/opencode.py": "reads the database that OpenCode keeps its sessions in",
    "agents/opencode_records.py": "reads the messages in it",
}

BORDERS = {
    "api": "dispatch: a bug in one request is logged, and answered as internal",
    "archiving.py": "one transcript: the others are copied",
    "cli/program.py": "main",
    "daemon.py": "main; regular work: the next time is another try",
    "ledger/ingest.py": "one turn: it is tried again",
    "ledger/reading.py": "one line of an agent's file",
    "enforcement.py": "one judgement: the next is another try",
    "ending.py": "one exit: it is booked again later. A look at what it left: it is booked without",
    "hook.py": "main: the agent goes on",
    "shim/journal.py": "one piece of work for the disk: without its thread no exit would ever be told",
    "shim/loop.py": "one peer: its connection is closed, and the runners go on",
    "sampling.py": "one pass over the processes; one agent's files",
    "watching.py": "one round of looks; one agent's state file",
    "store/database.py": "one write: the error goes to the caller that waits for it",
    "store/writer.py": "one batch: the errors go to the callers that wait for it",
    "status_line.py": "main: the agent goes on",
    "supervisor.py": "one pass over one runner",
    "terminal/screen.py": "pyte fails over odd sequences; one sequence is lost",
}
"""Where `except Exception` stands, so that what is around it goes on after a bug in one piece of work."""

SQL = re.compile(r"\s*(SELECT|INSERT INTO|INSERT OR|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA|WITH \w+ AS)\b")
WRITES_A_STATE = re.compile(r"UPDATE\s+runs\s+SET\b(?:(?!WHERE).)*\bstate\s*=", re.DOTALL)


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """The path inside the package: `store/runs.py`."""
    return file.relative_to(PACKAGE).as_posix()


def room_of(file: Path) -> str:
    """The first part of it, as the map names it: `store/` or `errors.py`."""
    first, *rest = file.relative_to(PACKAGE).parts
    return f"{first}/" if rest else first


def rooms() -> set[str]:
    return {room_of(file) for file in files()} - {"__init__.py"}


@cache
def mapped() -> tuple[str, ...]:
    """The rooms in the order of the map."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.search(r"^```\nstratavore/\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found, "ARCHITECTURE.md has a map that begins with a line `stratavore/`"
    return tuple(re.findall(r"^  (\S+)", found[1], re.MULTILINE))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


@cache
def imports_of(file: Path) -> frozenset[str]:
    """The modules that a file imports anywhere, also inside functions: `stratavore.store.runs`, `click`."""
    return frozenset(_imports(ast.walk(tree_of(file))))


@cache
def loaded_by(file: Path) -> frozenset[str]:
    """The modules that a file imports when it is loaded."""
    return frozenset(_imports(iter(tree_of(file).body)))


def _imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                is_module = [
                    (PACKAGE.parent / module.replace(".", "/") / f"{alias.name}.py").exists() for alias in names
                ]
                is_room = [(PACKAGE.parent / module.replace(".", "/") / alias.name).is_dir() for alias in names]
                for alias, file, folder in zip(names, is_module, is_room, strict=True):
                    yield f"{module}.{alias.name}" if file or folder else module


def imported_rooms(file: Path) -> set[str]:
    parts = [module.split(".") for module in imports_of(file) if module.startswith("stratavore.")]
    return {f"{part[1]}/" if (PACKAGE / part[1]).is_dir() else f"{part[1]}.py" for part in parts}


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """The string literals but for docstrings, f-strings with their holes as `?`, with their lines."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree_of(file)):
        match node:
            case ast.JoinedStr(values=values, lineno=line):
                yield (
                    line,
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in values),
                )
            case ast.Constant(value=str(text), lineno=line) if id(node) not in docstrings:
                yield line, text


def code_lines(file: Path) -> int:
    """How many lines hold code: no blank ones, comments and docstrings."""
    documented: set[int] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text()).readline)
    lines = {line for token in tokens if token.type not in silent for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - documented)


def test_the_map_names_every_room_and_nothing_else() -> None:
    assert sorted(mapped()) == sorted(rooms())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_imports_point_down(room: str) -> None:
    """Lazy imports count too: they hide a dependency, they do not remove it."""
    place = mapped().index(room)
    below = {*mapped()[:place], room, "__init__.py"}
    wrong = {name_of(file): sorted(imported_rooms(file) - below) for file in files() if room_of(file) == room}
    assert not {file: rooms for file, rooms in wrong.items() if rooms}


def test_no_module_imports_itself_around_a_corner_while_it_is_loaded() -> None:
    """Between rooms the map forbids lazy circles too; inside one, a dispatcher may load what asks it back."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files()
    }
    edges = {
        # The packages around a module are imported before it in any case: that is no choice of its own.
        name: {module for module in loaded_by(file) & modules.keys() if not f"{name}.".startswith(f"{module}.")}
        for name, file in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


@pytest.mark.parametrize("library", sorted(OUTSIDE))
def test_an_outside_library_stays_in_its_room(library: str) -> None:
    allowed = {room if (PACKAGE / room).is_dir() else f"{room}.py" for room in OUTSIDE[library]}
    users = {
        room_of(file).rstrip("/") for file in files() if library in {name.split(".")[0] for name in imports_of(file)}
    }
    assert users <= allowed


def test_every_outside_library_has_a_room() -> None:
    known = {"stratavore", *sys.stdlib_module_names, *OUTSIDE, *EVERYWHERE}
    strangers = {name_of(file): {name.split(".")[0] for name in imports_of(file)} - known for file in files()}
    assert not {file: names for file, names in strangers.items() if names}


def test_the_shim_imports_nothing_but_the_standard_library_and_itself() -> None:
    for file in (PACKAGE / "shim").glob("*.py"):
        strange = {name for name in imports_of(file) if name.split(".")[0] not in sys.stdlib_module_names}
        assert {name for name in strange if not name.startswith("stratavore.shim.")} == set(), name_of(file)
        assert not imports_of(file) & {"asyncio", "sqlite3", "typing_extensions"}, name_of(file)


def test_the_rest_knows_only_the_client_of_the_shim() -> None:
    for file in files():
        if room_of(file) != "shim/":
            inside = {name for name in imports_of(file) if f"{name}.".startswith("stratavore.shim.")}
            assert inside <= {"stratavore.shim.client"}, name_of(file)


def test_the_shim_stays_small() -> None:
    sizes = {name_of(file): code_lines(file) for file in (PACKAGE / "shim").glob("*.py") if file.name != "client.py"}
    assert sum(sizes.values()) <= LARGEST_SHIM, sizes


def test_sql_stands_only_in_the_store() -> None:
    elsewhere = [file for file in files() if room_of(file) != "store/" and name_of(file) not in FOREIGN_SQL]
    found = [f"{name_of(file)}:{line}" for file in elsewhere for line, text in texts_of(file) if SQL.match(text)]
    assert found == []


def test_exactly_one_file_writes_the_state_of_a_run() -> None:
    writers = {name_of(file) for file in files() for _, text in texts_of(file) if WRITES_A_STATE.search(text)}
    assert writers == {"store/runs.py"}


def test_bugs_are_caught_only_at_the_borders() -> None:
    """Who catches everything and raises it again, or hands it to a waiting caller, catches BaseException by name."""
    found = {
        name_of(file)
        for file in files()
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    }
    assert {name for name in found if not {name, name.split("/")[0]} & BORDERS.keys()} == set()


def test_no_file_is_too_long() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in files()}
    long = {name: length for name, length in lengths.items() if length > LONGEST_FILE}
    assert long.keys() == LONG_FILES.keys(), long


def test_every_module_says_what_it_is() -> None:
    assert [name_of(file) for file in files() if not ast.get_docstring(tree_of(file))] == []


@pytest.mark.parametrize("lock", ["packaging/requirements.lock", "packaging/requirements-dev.lock"])
def test_a_lock_names_packages_and_hashes_but_no_place(lock: str) -> None:
    """Where packages come from is the business of the machine that installs them."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9].*?(?= \\)", text, re.MULTILINE)
    assert len(pinned) > 10
    assert all("==" in line for line in pinned)
    assert text.count("--hash=sha256:") >= len(pinned)


def test_no_text_names_the_place_where_it_was_written() -> None:
    kinds = {".py", ".md", ".toml", ".sql", ".json", ".lock", ".sh", ".in"}
    ours = [ROOT / name for name in ("stratavore", "tests", "packaging", "docs", "benchmarks")]
    texts = [
        file
        for folder in ours
        for file in folder.rglob("*")
        if file.suffix in kinds and "node_modules" not in file.parts
    ]
    texts += [file for file in ROOT.iterdir() if file.suffix in kinds]
    assert [str(file) for file in texts if f"{ROOT}/" in file.read_text()] == []
