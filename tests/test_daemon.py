"""What the daemon does when a part of it fails."""

import asyncio
from pathlib import Path

from tests.house import living, quick, until


async def test_a_part_that_fails_for_good_ends_the_daemon_so_that_another_is_started(tmp_path: Path) -> None:
    async with living(tmp_path / "state", quick()) as house:
        end = asyncio.ensure_future(house.daemon.wait(house.paths.stop_mark))
        await house.wish("ALTER TABLE blocks RENAME TO gone")  # a bug, as it were
        house.daemon.judge()
        await until(end.done)
        assert house.daemon.exit_code != 0
        assert not house.paths.stop_mark.exists(), "nobody asked for it: it is to be started again"
        await house.wish("ALTER TABLE gone RENAME TO blocks")
