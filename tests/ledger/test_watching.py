"""Which files are looked at, and how soon: also those of agents that nobody here started."""

from pathlib import Path

from stratavore.ledger.homes import Home
from stratavore.ledger.watching import SWEEP_SECONDS, Watch

TURN_SECONDS = 0.5


def transcripts(home: Home, count: int) -> list[Path]:
    folder = home.path / "projects" / "p"
    folder.mkdir(parents=True)
    paths = [folder / f"{number:04}.jsonl" for number in range(count)]
    for path in paths:
        path.write_text("{}\n")
    return paths


def test_a_file_that_was_quiet_for_long_is_seen_to_grow_within_seconds_though_it_is_one_of_a_thousand(
    tmp_path: Path,
) -> None:
    home = Home("claude", tmp_path)
    paths = transcripts(home, 1000)
    watch = Watch(began_at=0, known=())
    assert len(watch.look(0.0, [home], (), ())) == 1000
    sweeps = [2 * SWEEP_SECONDS + 1, 3 * SWEEP_SECONDS + 2]
    assert [watch.look(now, [home], (), ()) for now in sweeps] == [[], []]
    for path in (paths[0], paths[500], paths[-1]):
        began, found, seconds = 3 * SWEEP_SECONDS + 3, list[Path](), 0.0
        with open(path, "a") as file:
            file.write("{}\n")
        while not found and seconds < SWEEP_SECONDS:
            seconds += TURN_SECONDS
            found = [each.path for each in watch.look(began + seconds, [home], (), ())]
        assert found == [path]
        assert seconds <= 5
        watch = Watch(began_at=0, known=())
        for now in (0.0, *sweeps):
            watch.look(now, [home], (), ())
