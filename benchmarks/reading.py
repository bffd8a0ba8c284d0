"""Rows: asking the daemon while a crowd lives, on a fixed schedule, each request over a connection of its own.

The floor is the same client asking a blocking loop that sends the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.bench import Bench, program
from benchmarks.canned import answer_to, serving
from benchmarks.house import House
from benchmarks.measure import open_loop, own_core
from benchmarks.processes import cpu_seconds
from benchmarks.rows import Better, Figure, Row, Target
from benchmarks.supervisord import Supervisord
from stratavore import control
from stratavore.paths import Paths

_WARM_UP_SECONDS = 1.0
_PEER_RUNNERS = 100


class Question(NamedTuple):
    """What is asked, how often, and how late the answer may be."""

    name: str
    what: str
    place: str
    fields: Mapping[str, object]
    ask: Callable[[Paths], object]
    per_second: float
    limit_ms: float


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("api", "api-one", "api-list"):
        return
    house = House(bench.place())
    try:
        house.start()
        house.launch(bench.scale.crowd)
        for question in _questions(house):
            if bench.wants("api", question.name):
                yield from _asked(bench, house, question)
    finally:
        house.close()


def _questions(house: House) -> list[Question]:
    somebody = house.rows.all("SELECT runner_id FROM runs ORDER BY key")[house.count("1") // 2]["runner_id"]
    return [
        Question(
            "api-one",
            "one runner",
            f"/runners/{somebody}",
            {},
            lambda paths: control.ask(paths, "get_runner", runner=somebody),
            100,
            3,
        ),
        Question(
            "api-list",
            "a list of 100",
            "/runners",
            {"limit": 100},
            lambda paths: control.ask(paths, "list_runners", limit=100),
            25,
            8,
        ),
    ]


def _asked(bench: Bench, house: House, question: Question) -> Iterator[Row]:
    daemon = house.processes()[:1]
    used = cpu_seconds(daemon)
    ours = _times(bench, lambda: question.ask(house.paths), question.per_second)
    used = cpu_seconds(daemon) - used
    with serving(bench.place(), answer_to(house.paths, question.place, **question.fields)) as canned:
        floor = _times(bench, lambda: question.ask(canned), question.per_second)
    peers = _supervisor(bench) if question.name == "api-one" else {}
    asked = (bench.scale.reads_seconds + _WARM_UP_SECONDS) * question.per_second
    for part in (0.5, 0.99):
        is_tail = part == 0.99
        yield Row(
            name=f"{question.name}-p{100 * part:.0f}",
            what=f"API: {question.what}, {bench.scale.crowd} live, {question.per_second:g}/s, p{100 * part:.0f}",
            unit="ms",
            better=Better.LOWER,
            ours=Figure.quantile(ours, part),
            floor=Figure.quantile(floor, part),
            floor_is="the same client, a blocking loop that sends the same bytes",
            peers={name: Figure.quantile(times, part) for name, times in peers.items()},
            target=Target(f"≤ {question.limit_ms:g} ms", question.limit_ms) if is_tail else None,
            notes=(f"CPU of the daemon: {1000 * used / asked:.2f} ms a request, sampling included",) if is_tail else (),
        )


def _times(bench: Bench, act: Callable[[], object], per_second: float) -> Sequence[float]:
    with own_core():
        found = open_loop(
            act, per_second=per_second, seconds=bench.scale.reads_seconds, warm_up_seconds=_WARM_UP_SECONDS
        )
    return [1000 * seconds for seconds in found]


def _supervisor(bench: Bench) -> dict[str, Sequence[float]]:
    """getProcessInfo, with a tenth of the crowd, so that it is not the start that takes all the time."""
    if not program("supervisord"):
        return {}
    peer = Supervisord(bench.place())
    try:
        peer.start()
        peer.launch(min(_PEER_RUNNERS, bench.scale.crowd))
        return {"supervisor": _times(bench, lambda: peer.call("getProcessInfo", "load:1"), 50)}
    finally:
        peer.close()
