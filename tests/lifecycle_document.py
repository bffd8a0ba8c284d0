"""docs/lifecycle.md, made from the table: `python -m tests.lifecycle_document` writes it.

The diagram cannot be wrong, because nobody draws it; tests/test_lifecycle.py sees to it that it is not old.
"""

from pathlib import Path

from stratavore.lifecycle import FINAL, TRANSITIONS, Cause, State

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"

_MEANS = {
    State.STARTING: "The intent is committed; the process is not there yet.",
    State.RUNNING: "The process runs.",
    State.PAUSED: "Its process tree is stopped where it stood.",
    State.STOPPING: "Somebody asked it to end, and it has not ended yet.",
    State.TERMINATED: "It ended, we know how, and it was asked to or succeeded.",
    State.FAILED: "It ended by itself otherwise, or could not start.",
    State.LOST: "It was gone when we looked; nobody knows how it ended.",
}
_SAYS = {
    Cause.SPAWNED: "the holder started its process",
    Cause.SPAWN_FAILED: "its process could not be started, or was not wanted any more",
    Cause.PAUSED: "its tree got SIGSTOP",
    Cause.UNPAUSED: "its tree got SIGCONT",
    Cause.STOP_ASKED: "a person, a quota or its time limit asked for its end",
    Cause.SUCCEEDED: "it ended, and its agent calls that a success",
    Cause.CRASHED: "it ended otherwise",
    Cause.VANISHED: "it was gone when we looked",
}


def diagram() -> str:
    """The table as a Mermaid state diagram: an arrow per pair of states, with every cause of it."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.STARTING}"]
    for state, ways_out in TRANSITIONS.items():
        arrows: dict[State, list[str]] = {}
        for cause, new in ways_out.items():
            arrows.setdefault(new, []).append(cause.replace("_", " "))
        lines += [f"    {state} --> {new}: {', '.join(causes)}" for new, causes in arrows.items()]
    return "\n".join([*lines, *(f"    {state} --> [*]" for state in State if state in FINAL)])


def document() -> str:
    """The whole page."""
    states = "\n".join(f"| `{state}` | {_MEANS[state]} |" for state in State)
    causes = "\n".join(f"| {cause.replace('_', ' ')} | {_SAYS[cause]} |" for cause in Cause)
    return f"""\
# The lifecycle of a run

Made from `TRANSITIONS` of `stratavore/lifecycle.py` by `python -m tests.lifecycle_document`; do not edit it.

A runner is what a person launches and names; a run is one process of it. A runner's state is that of its last run, or
`backoff` while it waits for the next one.

```mermaid
{diagram()}
```

| state | meaning |
|---|---|
{states}

| cause | what happened |
|---|---|
{causes}

Every change is guarded by the state that was read and committed together with its event. What is not an arrow here is
refused. A runner that a person stopped is started again by nothing but a person.
"""


if __name__ == "__main__":
    DOCUMENT.write_text(document())
