"""The zygote: pristine forks, the daemon started again, who may ask for what, and when it all ends."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stratavore
from stratavore.model import ShimId
from stratavore.shim import place
from stratavore.shim.client import Refused, connect, is_locked, start_daemon
from stratavore.shim.wire import common_version, control
from stratavore.shims import ShimGone
from tests.shim.harness import House, end, is_alive, request, until


@pytest.fixture
def daemon_lock(tmp_path: Path) -> Iterator[int]:
    """The lock that a living daemon holds; close it and the daemon is dead."""
    (tmp_path / "state").mkdir()
    fd = os.open(tmp_path / "state" / "state.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    with contextlib.suppress(OSError):
        os.close(fd)


def starter(tmp_path: Path) -> dict[str, Any]:
    """Options for a house whose daemon, when it is started, writes its environment down."""
    return {
        "start_argv": ["sh", "-c", f"env >>{tmp_path}/started; ls /proc/self/fd >>{tmp_path}/descriptors"],
        "start_env": {"STRATAVORE_HOME": "/some/where"},
    }


async def test_a_dead_daemon_is_started_again_while_runners_live(tmp_path: Path, daemon_lock: int) -> None:
    async with House(tmp_path / "state", **starter(tmp_path)) as house:
        await house.run("a.1", "read x")
        await house.shims.close()
        started = tmp_path / "started"
        await asyncio.sleep(2.5)
        assert not started.exists()
        os.close(daemon_lock)
        await until(started.exists, seconds=6)
        await until(lambda: (tmp_path / "descriptors").exists())
    variables = {line.partition("=")[0] for line in started.read_text().splitlines()}
    assert variables <= {"PATH", "HOME", "LANG", "STRATAVORE_HOME", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert (tmp_path / "descriptors").read_text().split()[:4] == ["0", "1", "2", "3"]


async def test_nothing_is_started_without_a_runner_or_with_a_stop_mark(tmp_path: Path) -> None:
    """The control: after the mark is removed it is."""
    async with House(tmp_path / "state", **starter(tmp_path)) as house:
        started = tmp_path / "started"
        house.paths.stop_mark.touch()
        await house.run("a.1", "read x")
        await asyncio.sleep(3.2)
        assert not started.exists()
        with pytest.raises(Refused, match="stopped"):
            start_daemon(house.paths.state)
        await house.shims.kill("a.1", by="tester")
        await house.ended("a.1")
        await house.shims.ack("a.1")
        house.paths.stop_mark.unlink()
        await asyncio.sleep(3.2)
        assert not started.exists()
        await house.run("b.1", "read x")
        await until(started.exists, seconds=6)


_FROM_INSIDE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from stratavore.shim.client import Refused, connect, start_daemon
state = Path(sys.argv[2])
print('started', start_daemon(state))
zygote = connect(state / 'zygotes' / (state / 'zygote.current').read_text().strip())
shim = connect(next((state / 'shims').iterdir()))
print('may', zygote.hello['may_control'], shim.hello['may_control'])
for peer, ops in (zygote, 'fork configure'), (shim, 'send stop spawn ack resize pause subscribe kill end_survivors'):
    for op in ops.split():
        try:
            peer.request(op, key='a.1', by='inside', parts=[], steps=[], grace=1)
            print(op, 'done')
        except Refused as refused:
            print(op, refused.code)
try:
    shim.attach('a.1', role='writer', rows=1, cols=1)
except Refused as refused:
    print('writer', refused.code)
print('observer', shim.attach('a.1')['pid'], len(shim.request('list')['entries']))
"""


def from_inside(house: House) -> list[str]:
    """A runner that tries all of it from a grandchild with a session of its own."""
    root = str(Path(stratavore.__file__).parent.parent)
    return [
        "sh",
        "-c",
        'setsid "$@" & wait',
        "sh",
        sys.executable,
        "-c",
        _FROM_INSIDE,
        root,
        str(house.paths.state),
    ]


async def test_a_runner_may_have_the_daemon_started_and_nothing_else(tmp_path: Path) -> None:
    async with House(tmp_path / "state", **starter(tmp_path)) as house:
        spawned = await house.run("a.1", "", argv=from_inside(house))
        assert (await house.ended("a.1")).exit_code == 0
        said = house.output("a.1").decode().splitlines()
        assert said[:2] == ["started True", "may False False"]
        assert len(said[2:-1]) == 12
        assert {line.partition(" ")[2] for line in said[2:-1]} == {"forbidden"}
        assert said[-1] == f"observer {spawned.pid} 1"
        await until((tmp_path / "started").exists)


async def test_runners_may_control_where_that_is_wanted(tmp_path: Path) -> None:
    """The control of the test before."""
    async with House(tmp_path / "state", runners_may_control=True) as house:
        await house.run("a.1", "", argv=from_inside(house))
        assert (await house.ended("a.1")).stop_by == "inside"
        assert b"may True True" in house.output("a.1")
        assert b"forbidden" not in house.output("a.1")


async def test_the_death_of_the_zygote_touches_nothing(house: House) -> None:
    spawned = await house.run("a.1", "read x; exit 3")
    [zygote] = house.pids("zygotes")
    current = house.paths.current_zygote.read_text()
    end(zygote)
    await until(lambda: house.paths.current_zygote.read_text() != current)
    assert is_alive(spawned.pid)
    await house.shims.reserve(7)
    await house.run("b.1", "true")  # needs a new shim, forked by a new zygote
    assert house.places["a.1"] != house.places["b.1"]
    assert (await house.ended("b.1")).exit_code == 0
    await house.shims.kill("a.1", by="tester")
    await house.ended("a.1")


async def test_a_restarted_daemon_goes_on_with_the_zygote_and_the_shims_of_its_build(house: House) -> None:
    await house.run("a.1", "read x")
    [zygote] = house.pids("zygotes")
    await house.reopen()
    await house.run("b.1", "true")
    assert house.pids("zygotes") == [zygote]
    assert house.places["a.1"] == house.places["b.1"]
    assert house.paths.current_zygote.read_text().strip() in names(house.paths.zygotes)


async def test_the_installation_may_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is imported before the first fork."""
    copy = tmp_path / "install"
    shutil.copytree(Path(stratavore.__file__).parent / "shim", copy / "stratavore" / "shim")
    (copy / "stratavore" / "__init__.py").touch()
    monkeypatch.setattr("stratavore.shims.nursery._ROOT", copy)
    async with House(tmp_path / "state") as house:
        [zygote] = house.pids("zygotes")
        assert str(copy) in Path(f"/proc/{zygote}/cmdline").read_text()
        shutil.rmtree(copy)
        await house.run("a.1", "echo still here; exit 5")
        await house.run("b.1", "read x", tty=False)
        assert (await house.ended("a.1")).exit_code == 5
        assert house.output("a.1") == b"still here\r\n"
        await house.ended("b.1")
        with pytest.raises(Exception, match="No such file"):
            await house.run("c.1", "", argv=["no-such-program"])
        connection = house.connect("a.1")
        connection.attach("a.1")
        connection.close()
        await house.ask("survivors", "a.1")


async def test_a_shim_ends_when_nobody_needs_it(tmp_path: Path) -> None:
    async with House(tmp_path / "state", idle_seconds=0.3) as house:
        await house.run("acked.1", "true")
        await house.ended("acked.1")
        await house.shims.ack("acked.1")
        await house.shims.reserve(7)
        await house.run("unacked.1", "true")
        await house.ended("unacked.1")
        pids = house.pids("shims")
        await asyncio.sleep(0.6)
        assert all(map(is_alive, pids))  # for the daemon is still connected
        await house.shims.close()
        await until(lambda: not any(map(is_alive, pids)))
        assert names(house.paths.shims) == [house.places["unacked.1"]]
        house.gone.clear()
        await house.reopen()
        assert house.gone == [house.places["unacked.1"]]
        assert [record.key for record in await house.shims.replay(house.gone[0])] == ["unacked.1"]
        zygotes = house.pids("zygotes")
        await house.shims.close()
        await until(lambda: not any(map(is_alive, zygotes)))
        assert list(house.paths.zygotes.iterdir()) == []


async def test_a_shim_that_is_asked_to_end_waits_for_its_runs(house: House) -> None:
    await house.run("a.1", "read x; exit 4")
    pid = house.shim_pid("a.1")
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXFSZ):
        os.kill(pid, signum)
    assert set(await house.holdings()) == {"a.1"}
    await house.shims.kill("a.1", by="tester")
    await house.ended("a.1")
    await until(lambda: not is_alive(pid))


async def test_the_busy_lock_is_held_while_runners_live_or_an_end_is_unknown(house: House) -> None:
    await house.run("a.1", "read x")
    busy = house.paths.shim(house.places["a.1"]) / "busy"
    await until(lambda: is_locked(busy))
    await house.shims.kill("a.1", by="tester")
    await house.ended("a.1")
    assert is_locked(busy)
    await house.shims.ack("a.1")
    await until(lambda: not is_locked(busy))
    await house.run("b.1", "read x")
    await until(lambda: is_locked(busy))


async def test_a_shim_of_a_future_protocol_is_refused_clearly(tmp_path: Path) -> None:
    """What such a shim says is written here as it goes over the socket."""
    directory = tmp_path / "state" / "shims" / "future"
    directory.parent.mkdir(parents=True)
    held = place.settle(str(directory))
    (directory / "pid").write_text("0")  # or this process would count as a runner
    refusal = {"code": "version", "text": "protocol [9, 8, 7] is spoken here, not [1]"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readexactly(5 + len(b'{"op":"hello","versions":[1],"id":1}'))
        assert asked[:5] == b"\0\0\0\x24J"
        writer.write(control({"id": json.loads(asked[5:])["id"], "error": refusal}))
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=place.listen(str(directory)))
    async with server, House(tmp_path / "state") as house:
        assert house.shims.health() == {ShimId("future"): "incompatible"}
        assert not house.shims.is_gone(ShimId("future"))
        with pytest.raises(ShimGone, match="incompatible"):
            await house.shims.spawn(ShimId("future"), request("a.1", "true"))
        await house.run("b.1", "true")
        await house.ended("b.1")
    os.close(held)


@pytest.mark.parametrize(
    ("theirs", "chosen"), [([1], 1), ([3, 2, 1], 1), ([1, 2, 3], 1), ([4, 3, 2], None), ([], None)]
)
def test_the_highest_common_version_is_spoken(theirs: list[int], chosen: int | None) -> None:
    assert common_version(theirs) == chosen


async def test_a_client_that_speaks_only_newer_protocols_is_told_what_is_spoken(house: House) -> None:
    await house.run("a.1", "read x")
    connection = house.connect("a.1")
    with pytest.raises(Refused, match=r"protocol \[1\] is spoken here, not \[7, 6, 5\]") as refused:
        connection.request("hello", versions=[7, 6, 5])
    assert refused.value.code == "version"
    connection.close()


async def test_the_zygote_and_the_shims_are_private_and_small(house: House) -> None:
    await house.run("a.1", "read x")
    for path in (house.paths.shims, house.paths.zygotes, house.paths.logs, *house.paths.shims.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    sock = house.paths.shim(house.places["a.1"]) / "sock"
    assert sock.stat().st_mode & 0o777 == 0o600 | sock.stat().st_mode & 0o100
    [zygote] = house.pids("zygotes")
    assert len(names(Path(f"/proc/{zygote}/task"))) == 1
    assert os.getsid(zygote) != os.getsid(0)
    assert os.getsid(house.shim_pid("a.1")) == house.shim_pid("a.1")
    environment = Path(f"/proc/{zygote}/environ").read_bytes().split(b"\0")
    assert {variable.partition(b"=")[0] for variable in environment} <= {
        b"PATH",
        b"HOME",
        b"LANG",
        b"LC_CTYPE",
        b"",
    }


async def test_a_peer_of_another_user_is_refused_before_it_is_heard(house: House) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    await house.run("a.1", "read x")
    directory = house.paths.shim(house.places["a.1"])
    for path in (directory, *directory.parents):
        if house.paths.state.parent.parent in path.parents:
            path.chmod(0o755)
    (directory / "sock").chmod(0o666)
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "os.chdir(sys.argv[1])\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        "sock.connect('sock')\n"
        "sock.settimeout(5)\n"
        "print('heard' if sock.recv(1) else 'closed')\n"
    )
    for path in directory.parents:
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o005 != 0o005 and path.is_relative_to("/tmp"):
            path.chmod(0o755)
    command = [sys.executable, "-c", script, str(directory)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.stdout == "closed\n", done.stderr


async def test_without_descriptors_new_peers_wait_and_nothing_spins(house: House) -> None:
    await house.run("a.1", "read x")
    pid = house.shim_pid("a.1")
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(names(Path(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
    waiting = asyncio.ensure_future(asyncio.to_thread(house.connect, "a.1"))
    before = _cpu_ticks(pid)
    await asyncio.sleep(0.7)
    assert set(await house.holdings()) == {"a.1"}
    assert _cpu_ticks(pid) - before < 10
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    (await waiting).close()


async def test_a_zygote_that_cannot_fork_says_so_and_can_later(house: House) -> None:
    await house.run("a.1", "read x")
    [pid] = house.pids("zygotes")
    connection = connect(next(house.paths.zygotes.iterdir()))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(names(Path(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
    with pytest.raises(Refused, match="Too many open files") as refused:
        connection.request("fork", shim="another")
    assert refused.value.code == "fork_failed"
    assert len(names(Path(f"/proc/{pid}/fd"))) == used
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert connection.request("fork", shim="another")["pid"]
    connection.close()


async def test_a_stray_file_among_the_shims_is_no_shim(tmp_path: Path) -> None:
    shims = tmp_path / "state" / "shims"
    shims.mkdir(parents=True)
    (shims / "stray").touch()
    async with House(tmp_path / "state") as house:
        await house.run("a.1", "exit 3")
        assert (await house.ended("a.1")).exit_code == 3
        assert house.gone == [ShimId("stray")]
        assert await house.shims.replay(ShimId("stray")) == []


async def test_a_shim_is_forked_under_a_new_name_only(house: House) -> None:
    await house.run("a.1", "read x")
    connection = connect(next(house.paths.zygotes.iterdir()))
    for name in (house.places["a.1"], "../x", ""):
        with pytest.raises(Refused) as refused:
            connection.request("fork", shim=name)
        assert refused.value.code in ("fork_failed", "invalid")
    connection.close()
    assert set(await house.holdings()) == {"a.1"}
    assert (await house.spawn(request("b.1", "true"), ShimId(house.places["a.1"]))).pid


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
