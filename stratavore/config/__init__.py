"""The configuration: one frozen `Config`, read once from defaults, files and environment.

`settings` declares every key; `keys` derives from it how a value is read and written; `load` reads the layers; `show`
writes the example and what `config show` prints.
"""

from stratavore.config.load import Kind, Loaded, Source, load
from stratavore.config.settings import (
    Activity,
    Attach,
    Budgets,
    Config,
    Daemon,
    Environment,
    Hooks,
    Ledger,
    LogFormat,
    LogLevel,
    ModelPrice,
    Output,
    Profile,
    Projects,
    Retention,
    Runners,
    Shim,
    Supervision,
)
from stratavore.config.show import example, render_all, rows_of

__all__ = [
    "Activity",
    "Attach",
    "Budgets",
    "Config",
    "Daemon",
    "Environment",
    "Hooks",
    "Kind",
    "Ledger",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "ModelPrice",
    "Output",
    "Profile",
    "Projects",
    "Retention",
    "Runners",
    "Shim",
    "Source",
    "Supervision",
    "example",
    "load",
    "render_all",
    "rows_of",
]
