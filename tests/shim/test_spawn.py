"""From a request to a process: identity, surroundings, failures."""

import errno
import os
import re
import resource
from pathlib import Path

import pytest

from stratavore.model import ShimId
from stratavore.shim.client import replay
from stratavore.shims import ShimGone, SpawnFailed
from tests.shim.harness import House, at_once, is_alive, request, until


async def test_a_run_gets_a_terminal_of_its_own_and_tells_its_code(house: House) -> None:
    spawned = await house.run("a.1", "tty; stty size; echo $TEST; exit 3", env={"TEST": "x"}, rows=30, cols=99)
    record = await house.ended("a.1")
    assert (record.pid, record.start_time, record.boot_id) == (spawned.pid, spawned.start_time, spawned.boot_id)
    assert (record.exit_code, record.exit_signal, record.stop_by) == (3, None, None)
    assert re.fullmatch(rb"/dev/pts/\d+\r\n30 99\r\nx\r\n", house.output("a.1"))
    assert record.output_bytes == len(house.output("a.1"))


async def test_without_a_terminal_both_outputs_share_a_pipe_and_the_input_is_empty(house: House) -> None:
    await house.run("a.1", "cat; echo one; echo two >&2; test -t 1 || exit 7", tty=False)
    record = await house.ended("a.1")
    assert record.exit_code == 7
    assert house.output("a.1") == b"one\ntwo\n"


async def test_a_key_is_spawned_once(house: House) -> None:
    """Also while it runs, also after its end, also by the daemon's successor."""
    first = await house.run("a.1", "echo once; read x; exit 5")
    shim = house.places["a.1"]
    again = await at_once(*(house.spawn(request("a.1", "echo twice"), shim) for _ in range(10)))
    assert {spawned.pid for spawned in again} == {first.pid}
    await house.reopen()
    assert (await house.spawn(request("a.1", "echo twice"), shim)).pid == first.pid
    await house.shims.kill("a.1", by="test")
    await house.ended("a.1")
    late = await house.spawn(request("a.1", "echo twice"), shim)
    assert late.ended is not None
    assert late.ended.exit_signal == 9
    assert house.output("a.1").count(b"once") == 1
    assert b"twice" not in house.output("a.1")


async def test_a_key_is_not_spawned_again_after_its_exit_was_acked(house: House) -> None:
    await house.run("a.1", "true")
    await house.ended("a.1")
    await house.shims.ack("a.1")
    with pytest.raises(SpawnFailed, match="File exists"):
        await house.spawn(request("a.1", "true"), house.places["a.1"])


async def test_three_hundred_short_runs_lose_no_code_and_no_output(house: House) -> None:
    keys = [f"r{number}.1" for number in range(300)]
    shims = await house.shims.reserve(len(keys))
    house.places.update(zip(keys, shims, strict=True))
    wanted = [request(key, f"echo {key}; exit {number % 100}") for number, key in enumerate(keys)]
    await at_once(*(house.shims.spawn(shim, each) for shim, each in zip(shims, wanted, strict=True)))
    await until(lambda: len(house.exits) == len(keys))
    assert [house.exits[key].exit_code for key in keys] == [number % 100 for number in range(300)]
    assert [house.output(key) for key in keys] == [f"{key}\r\n".encode() for key in keys]


async def test_places_are_filled_and_given_back(house: House) -> None:
    first = await house.shims.reserve(8)
    assert len(set(first)) == 1
    assert set(await house.shims.reserve(1)).isdisjoint(first)
    house.shims.release(first[0])
    assert await house.shims.reserve(1) == [first[0]]


async def test_a_runner_has_three_descriptors_and_no_signal_of_ours(house: House) -> None:
    await house.run("a.1", "ls /proc/self/fd; cat /proc/self/status | grep -E '^Sig(Blk|Ign|Cgt)'; umask", umask=0o027)
    await house.ended("a.1")
    text = house.output("a.1").decode().split()
    assert text[:4] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    masks = dict(zip(text[4:10:2], (int(mask, 16) for mask in text[5:10:2]), strict=True))
    masks["SigIgn:"] &= ~(1 << 31 | 1 << 32)  # glibc's posix_spawn ignores the two signals that it keeps for itself
    assert masks == {"SigBlk:": 0, "SigIgn:": 0, "SigCgt:": 0}
    assert text[10] == "0027"


async def test_a_runner_has_its_own_session_and_is_the_victim_when_memory_runs_out(house: House) -> None:
    spawned = await house.run("a.1", "cat /proc/self/oom_score_adj; read x", oom_score_adj=321)
    assert os.getsid(spawned.pid) == spawned.pid
    await until(lambda: Path(f"/proc/{spawned.pid}/oom_score_adj").read_text().strip() == "321")
    limit = resource.prlimit(spawned.pid, resource.RLIMIT_CORE)
    assert limit == resource.getrlimit(resource.RLIMIT_CORE)


async def test_what_cannot_be_executed_is_told_and_leaves_nothing(house: House, tmp_path: Path) -> None:
    noshebang, denied, busy = tmp_path / "noshebang", tmp_path / "denied", tmp_path / "busy"
    noshebang.write_text("nothing that the kernel executes")
    noshebang.chmod(0o755)
    denied.write_text("#!/bin/sh")
    busy.write_bytes(Path("/bin/true").read_bytes())
    busy.chmod(0o755)
    table = [
        (["no-such-program"], {}, errno.ENOENT, "no-such-program: No such file or directory"),
        ([str(tmp_path / "missing")], {}, errno.ENOENT, "missing: No such file or directory"),
        ([str(denied)], {}, errno.EACCES, "denied: Permission denied"),
        ([str(noshebang)], {}, errno.ENOEXEC, "noshebang: Exec format error"),
        ([str(busy)], {}, errno.ETXTBSY, "busy: Text file busy"),
        (["true", "x" * 200_000], {}, errno.E2BIG, "true: Argument list too long"),
        (["true", "x" * 2_000_000], {}, errno.E2BIG, "too many"),
        (["true", "a\0b"], {}, errno.EINVAL, "true: Invalid argument"),
        (["true"], {"cwd": str(tmp_path / "nowhere")}, errno.ENOENT, "nowhere: No such file or directory"),
        (["true"], {"cwd": str(denied)}, errno.ENOTDIR, "denied: Not a directory"),
    ]
    with busy.open("ab"):
        for number, (argv, fields, code, text) in enumerate(table):
            with pytest.raises(SpawnFailed, match=re.escape(text)) as failed:
                await house.run(f"bad{number}.1", "", argv=argv, **fields)
            assert failed.value.errno == code, argv
    assert await house.holdings() == {}
    assert [path for path in house.paths.logs.rglob("*") if path.is_file()] == []
    await house.run("good.1", "pwd", cwd=str(tmp_path))
    assert (await house.ended("good.1")).exit_code == 0
    assert house.output("good.1") == f"{tmp_path}\r\n".encode()


async def test_a_label_in_any_script_comes_back_whole(house: House) -> None:
    label = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 240_000
    await house.run("a.1", "read x", label=label)
    connection = house.connect("a.1")
    [entry] = connection.request("list")["entries"]
    connection.close()
    assert entry["label"] == label
    await house.shims.kill("a.1", by="tester")
    assert (await house.ended("a.1")).label == label
    [record] = replay(house.paths.shim(house.places["a.1"]) / "journal")
    assert record.label == label


async def test_a_label_that_could_not_be_told_again_is_refused(house: House) -> None:
    with pytest.raises(SpawnFailed, match="shorten the prompt") as failed:
        await house.run("a.1", "true", label="x" * 600_000)
    assert failed.value.errno == errno.E2BIG
    assert await house.holdings() == {}


async def test_without_a_free_terminal_the_spawn_is_refused(house: House) -> None:
    await house.run("a.1", "read x")
    pid = house.shim_pid("a.1")
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, hard))
    with pytest.raises(SpawnFailed, match="too many open files in the shim") as failed:
        await house.spawn(request("b.1", "true"), house.places["a.1"])
    assert failed.value.errno == errno.EMFILE
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    await house.spawn(request("b.1", "true"), house.places["a.1"])
    assert (await house.ended("b.1")).exit_code == 0


async def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    async with House(tmp_path / ("long" * 40) / ("longer" * 30)) as house:
        await house.run("a.1", "true")
        assert (await house.ended("a.1")).exit_code == 0
        connection = house.connect("a.1")
        assert connection.hello["version"] == 1
        connection.close()


async def test_an_unknown_shim_is_gone(house: House) -> None:
    with pytest.raises(ShimGone):
        await house.shims.spawn(ShimId("nobody"), request("a.1", "true"))
    assert house.shims.is_gone(ShimId("nobody"))


async def test_a_program_is_found_on_the_runners_own_path(house: House, tmp_path: Path) -> None:
    program = tmp_path / "greet"
    program.write_text("#!/bin/sh\necho greetings\n")
    program.chmod(0o755)
    spawned = await house.run("a.1", "", argv=["greet"], env={"PATH": f"/nowhere:{tmp_path}:/bin:/usr/bin"})
    await house.ended("a.1")
    assert house.output("a.1") == b"greetings\r\n"
    assert not is_alive(spawned.pid)
