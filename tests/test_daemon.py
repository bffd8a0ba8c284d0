"""What the daemon does when a part of it fails."""

import asyncio
from pathlib import Path

from stratavore.config import ModelPrice
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


async def test_what_the_configuration_says_of_a_price_holds_for_past_calls_after_a_restart(tmp_path: Path) -> None:
    async with living(tmp_path / "state", quick()) as house:
        await house.wish(
            "INSERT INTO usage SELECT 'claude', 'k', NULL, NULL, NULL, '2031-05-06T07:08:09.000Z', 'mystery', 1000, 0,"
            " 0, 0, 0, NULL, NULL, NULL, 'transcript', 'f', 0"
        )
        for usd in (3000, 3):
            await house.stop()
            house.config = quick(prices={"mystery": ModelPrice(input=usd, output=usd)})
            await house.start()
            assert (await house.ask("usage")).total.cost_usd == usd / 1000
