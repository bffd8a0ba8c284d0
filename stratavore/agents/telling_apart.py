"""Which conversation is a run's, of those that began in its directory: for agents that do not say it."""

from collections.abc import Collection, Mapping

from stratavore.agents.agent import Traces


def the_one(current: str | None, began: Mapping[str, float], traces: Traces) -> str | None:
    """The conversation that a run is in, of those that began in its directory since it did, each with the time of its
    last change; `current` is the one that it was in, which is among them if it exists.

    Whoever is alone in a directory is in the conversation that changed last. If others are at work there, or it is not
    known in which it was, one is taken only where there is no other.
    """
    left = {session_id: changed for session_id, changed in began.items() if session_id not in traces.taken}
    if traces.rivals:
        return current
    if current is None:
        return next(iter(left)) if len(left) == 1 else None
    return max(left, key=left.__getitem__) if current in left else current


def why_not_one(began: Collection[str], traces: Traces) -> str:
    """Why `the_one` is none, in words."""
    left = len(set(began) - traces.taken)
    if traces.rivals:
        others = "another" if traces.rivals == 1 else f"{traces.rivals} others"
        return f"{others} of its kind works in the same directory, and nothing tells their conversations apart"
    if not left:
        return "no conversation has begun in its directory since it started"
    return f"{left} conversations began in its directory since it started, and nothing tells which is its own"
