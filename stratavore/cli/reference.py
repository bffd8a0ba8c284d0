"""docs/cli.md, made from the commands, the errors and the model: `python -m stratavore.cli.reference > docs/cli.md`.

Rule: nothing of it is written by hand; tests/cli/test_reference.py finds it stale.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping

import click
import msgspec

from stratavore import errors, model
from stratavore.cli import INTERRUPTED, PIPE_CLOSED
from stratavore.cli.commands import COMMANDS
from stratavore.cli.program import program
from stratavore.rescue import Living

HEAD = """\
# The command line

Made from the program by `python -m stratavore.cli.reference`.

- RUNNER is a name, an id, or any unique prefix of one; an ambiguous one lists whom it may mean. Who lives goes before
  who ended: a prefix that fits one living runner means that one, whatever ended ones it fits. Of several ended ones of
  a name the newest is shown; `rm`, `restart` and `rename` want the id.
- `stratavore PROJECT` is `stratavore open PROJECT`; a command's name always beats a project's.
- Times are written `30s`, `5m`, `1h30m`, `2d`, sizes `512M`, `2G`. `--config FILE` adds a configuration file.
- Results go to stdout, remarks and errors to stderr: `stratavore: what is wrong → what to do`.
- With `--json` a command prints exactly what the API answered: a list is an array, unknown is `null`, times are
  ISO 8601 in UTC. The keys are below.
- Reading commands work with the daemon down: the answer then comes from the database, and stderr says so.
- `eval "$(stratavore completion bash)"` completes commands, projects and runners (also `zsh`, `fish`).
"""
ANSWERED_BY: Mapping[str, type | str] = {
    **dict.fromkeys(("projects", "projects list"), list[model.Project]),
    **dict.fromkeys(("new", "projects show", "projects set", "projects rename"), model.Project),
    **dict.fromkeys(("projects archive", "projects unarchive"), model.Project),
    "projects delete": model.Acknowledged,
    **dict.fromkeys(("runners", "ps"), list[model.Runner]),
    **dict.fromkeys(("show", "rename"), model.Runner),
    "show --screen": "An array of text: the lines of the screen. `logs --screen` as well.",
    "explain": model.Explanation,
    **dict.fromkeys(("launch", "resume", "adopt"), model.Launched),
    "launch --dry-run": model.LaunchPlan,
    **dict.fromkeys(("send", "interrupt"), model.Sent),
    "logs": "An array of text: the lines. With `--follow` each is one line of JSON, as it comes.",
    "approvals": list[model.Approval],
    **dict.fromkeys(("approve", "deny"), model.Approval),
    **dict.fromkeys(("stop", "kill", "rm", "pause", "unpause", "restart", "wait"), list[model.Runner]),
    **dict.fromkeys(("budget", "budget list"), list[model.Budget]),
    **dict.fromkeys(("budget set", "budget extend"), model.Budget),
    "budget show": model.BudgetInPeriods,
    "budget remove": model.Acknowledged,
    "usage": model.Usage,
    "status": model.Status,
    "watch": "An array of Runner on one line, now and at every change.",
    **dict.fromkeys(("daemon status", "daemon start", "daemon restart"), model.DaemonStatus),
    "import": model.ImportProgress,
    "sessions": list[model.Session],
    **dict.fromkeys(("sessions show", "sessions archive"), model.Session),
    "sessions show --transcript": "One Session with one more key, `transcript`: array of TranscriptTurn.",
    "sessions transcript": model.Transcript,
    "events": list[model.Event],
    "events --follow": "One Event a line, as it comes.",
    "reconcile": model.Reconciled,
    "du": model.DiskUse,
    "prune": model.Pruned,
    **dict.fromkeys(("rescue list", "rescue stop", "rescue kill"), list[Living]),
    "config show": "An object of sections by name; each an object of keys by name; each of these an object of `value`,"
    " as TOML has it (secrets masked), and `source`: text, such as `default` or a file with its line.",
    "config validate": "One object: `valid`: true; `files`: array of text, the files that were read.",
}
"""What a verb prints with --json: a Struct, an array of it, or what else in words."""


def render() -> str:
    """The whole document."""
    parts = [
        HEAD,
        "## Commands\n",
        *_commands(),
        "## Exit codes\n",
        _exit_codes(),
        "## Keys of the JSON\n",
        *_keys(),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _commands() -> Iterator[str]:
    root = click.Context(program, info_name="stratavore")
    for name in COMMANDS:
        command = program.get_command(root, name)
        assert command is not None
        if name == "ps":
            yield "### ps\n\nThe same as `runners`.\n"
        else:
            yield from _command(command, click.Context(command, info_name=name, parent=root))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    name = ctx.command_path.removeprefix("stratavore ")
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    params = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    options = [record for param in params if (record := param.get_help_record(ctx))]
    lines = [f"### {name}\n", f"`{usage}`\n", inspect.cleandoc(command.help or "") + "\n"]
    rows = [f"| `{_cell(spelling)}` | {_cell(meaning)} |" for spelling, meaning in options if "--help" not in spelling]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for sub in command.list_commands(ctx):
            child = command.get_command(ctx, sub)
            assert child is not None
            yield from _command(child, click.Context(child, info_name=sub, parent=ctx))


def _exit_codes() -> str:
    rows = [
        "| code | name | meaning | what to do |",
        "|---|---|---|---|",
        "| 0 | | It was done. | |",
    ]
    for cls in sorted(errors.classes(), key=lambda cls: cls.exit_code):
        meaning = inspect.cleandoc(cls.__doc__ or "").split("\n")[0]
        rows.append(f"| {cls.exit_code} | `{cls.code}` | {meaning} | {_cell(cls.remedy)} |")
    rows += [
        "| 2 | | The command line is wrong: an unknown option, a missing argument. | |",
        f"| {INTERRUPTED} | | Interrupted with Ctrl-C, or a question was answered with no. | |",
        f"| {PIPE_CLOSED} | | Whoever read the output went away. | |",
        "",
        "A code never changes its meaning.",
        "",
    ]
    return "\n".join(rows)


def _keys() -> Iterator[str]:
    told: set[type] = set()
    for command, answer in ANSWERED_BY.items():
        yield f"### `{command} --json`\n"
        if isinstance(answer, str):
            yield f"{answer}\n"
            continue
        kind = msgspec.inspect.type_info(answer)
        is_list = isinstance(kind, msgspec.inspect.ListType)
        struct = kind.item_type if isinstance(kind, msgspec.inspect.ListType) else kind
        assert isinstance(struct, msgspec.inspect.StructType)
        yield f"{'An array of' if is_list else 'One'} {struct.cls.__name__}.\n"
        yield from _table(struct, told)


def _table(struct: msgspec.inspect.StructType, told: set[type]) -> Iterator[str]:
    """Its keys, then those of what stands in it; each kind once in the document."""
    if struct.cls in told:
        return
    told.add(struct.cls)
    yield "| key | value |\n|---|---|"
    for field in struct.fields:
        yield f"| `{field.encode_name}` | {_value(field.type)} |"
    yield ""
    for inner in (each for field in struct.fields for each in _structs(field.type)):
        if inner.cls not in told:
            yield f"{inner.cls.__name__}:\n"
            yield from _table(inner, told)


def _structs(kind: msgspec.inspect.Type) -> list[msgspec.inspect.StructType]:
    """Those in a value."""
    match kind:
        case msgspec.inspect.StructType():
            return [kind]
        case msgspec.inspect.UnionType():
            return [found for each in kind.types for found in _structs(each)]
        case msgspec.inspect.ListType():
            return _structs(kind.item_type)
        case msgspec.inspect.DictType():
            return _structs(kind.value_type)
        case _:
            return []


def _value(kind: msgspec.inspect.Type) -> str:
    """What a JSON value may be, in words."""
    match kind:
        case msgspec.inspect.UnionType():
            return " or ".join(_value(each) for each in kind.types)
        case msgspec.inspect.EnumType():
            return " ".join(f"`{value.value}`" for value in kind.cls)
        case msgspec.inspect.StructType():
            return kind.cls.__name__
        case msgspec.inspect.ListType():
            return f"array of {_value(kind.item_type)}"
        case msgspec.inspect.DictType():
            return f"object: {_value(kind.value_type)} by name"
        case msgspec.inspect.NoneType():
            return "`null`"
        case msgspec.inspect.DateTimeType():
            return "time"
        case _:
            names = {
                "str": "text",
                "int": "integer",
                "float": "number",
                "bool": "true or false",
                "any": "anything",
            }
            return names[type(kind).__name__.removesuffix("Type").lower()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(render())
