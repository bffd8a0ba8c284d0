"""The verbs on projects, against a daemon."""

import subprocess
import sys
from pathlib import Path

import pytest

from stratavore.errors import Conflict, Invalid, NotFound
from stratavore.model import OnQuota, Project, ProjectStatus
from tests.house import House, living, quick, together


@together
async def test_a_new_project_has_what_was_said_and_else_the_defaults(shared: House, tmp_path: Path) -> None:
    plain = await shared.ask("new_project", name="plain", path=str(tmp_path))
    assert (plain.max_runners, plain.on_quota, plain.agent) == (5, OnQuota.WARN, None)
    said = await shared.project(
        "said", tmp_path, description="d", tags=["t"], max_runners=2, max_memory_bytes=3, max_cpu_percent=4.5,
        on_quota="stop",
    )  # fmt: skip
    assert (said.path, said.agent, said.description, said.tags) == (str(tmp_path), "shell", "d", ["t"])
    assert (said.max_runners, said.max_memory_bytes, said.max_cpu_percent, said.on_quota) == (
        2, 3, 4.5, OnQuota.STOP,
    )  # fmt: skip
    assert await shared.ask("get_project", "said") == said


async def test_the_defaults_are_the_configurations(tmp_path: Path) -> None:
    config = quick(projects={"max_runners": 9, "on_quota": "pause"})
    async with living(tmp_path / "state", config) as house:
        found = await house.project("p")
        assert (found.max_runners, found.on_quota) == (9, OnQuota.PAUSE)


@together
@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("relative", "not an absolute path"),
        ("", "not an absolute path"),
        ("/no/such/place", "is not a directory"),
        ("/etc/passwd", "is not a directory"),
        ("/etc/passwd/below", "is not a directory"),
        ("/tmp/\0", "is not a directory"),
        ("/" + "x" * 5000, "is not a directory"),
        ("/tmp/a\nb\x1b[31m", "is not a directory"),
    ],
    ids="relative empty missing file below-file nul long control".split(),
)
async def test_what_is_no_directory_is_refused_in_one_line(shared: House, path: str, complaint: str) -> None:
    for name, *where in (("new_project",), ("edit_project", "p")):
        with pytest.raises(Invalid, match=complaint) as caught:
            await shared.ask(name, *where, **({"name": "bad"} if not where else {}), path=path)
        assert "\n" not in caught.value.message
        assert caught.value.message.isprintable()
    with pytest.raises(NotFound):
        await shared.ask("get_project", "bad")


def test_a_directory_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Asked by somebody who is not root, for whom there is no such directory."""
    (tmp_path / "closed").mkdir(mode=0o700)
    code = """
        import os, sys
        from stratavore.errors import Invalid
        from stratavore.projects import usable_directory
        os.chdir(sys.argv[1])
        os.chmod("closed", 0)
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 65534)
        os.path.realpath = lambda path: path
        try:
            usable_directory("/proc/self/cwd/closed")
        except Invalid as refusal:
            print(refusal.message, refusal.remedy)
    """
    code = "\n".join(line[8:] for line in code.splitlines())
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    (tmp_path / "closed").chmod(0o700)
    assert done.stdout == "/proc/self/cwd/closed cannot be read chmod u+rx /proc/self/cwd/closed\n"


@together
async def test_a_link_is_followed_once_and_for_all(shared: House, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = await shared.project("linked", tmp_path / "link")
    assert found.path == str(tmp_path / "real")


@together
async def test_an_agent_that_nobody_knows_is_refused(shared: House) -> None:
    with pytest.raises(NotFound, match="no agent is called 'ghost'"):
        await shared.ask("new_project", name="bad", path="/", agent="ghost")
    with pytest.raises(NotFound):
        await shared.ask("edit_project", "p", agent="ghost")
    assert (await shared.ask("edit_project", "p", agent=None)).agent is None
    assert (await shared.ask("edit_project", "p", agent="shell")).agent == "shell"


@together
async def test_an_edit_says_only_what_changes(shared: House) -> None:
    await shared.project("edited", max_memory_bytes=7, description="d")
    assert (await shared.ask("edit_project", "edited", max_runners=1)).max_memory_bytes == 7
    cleared = await shared.ask("edit_project", "edited", max_memory_bytes=None)
    assert (cleared.max_memory_bytes, cleared.description, cleared.max_runners) == (None, "d", 1)
    renamed = await shared.ask("edit_project", "edited", name="renamed")
    assert renamed.name == "renamed"
    assert shared.events_of("renamed")[-1].payload == {"was": "edited", "changed": ["name"]}


@together
async def test_a_project_is_put_away_and_brought_back(shared: House) -> None:
    await shared.project("old")
    away = await shared.ask("edit_project", "old", archived=True)
    assert away.status is ProjectStatus.ARCHIVED
    assert away.archived_at is not None
    assert "old" not in names(await shared.ask("list_projects"))
    assert names(await shared.ask("list_projects", status="archived")) == ["old"]
    with pytest.raises(Conflict, match="old is archived"):
        await shared.launch("old")
    back = await shared.ask("edit_project", "old", archived=False)
    assert (back.status, back.archived_at) == (ProjectStatus.IDLE, None)
    await shared.running("old")


@together
async def test_what_lives_is_not_put_away_nor_forgotten(shared: House) -> None:
    await shared.project("busy")
    runner = await shared.running("busy")
    for verb, fields in (("edit_project", {"archived": True}), ("delete_project", {})):
        with pytest.raises(Conflict, match="busy has 1 living runners"):
            await shared.ask(verb, "busy", **fields)
    assert "busy" in names(await shared.ask("list_projects", status="active"))
    await shared.ask("kill_runners", runner.id)
    await shared.over(runner.id)
    await shared.ask("edit_project", "busy", archived=True)


@together
async def test_to_delete_a_project_forgets_its_runners_and_not_its_directory(shared: House, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("work")
    await shared.project("doomed", tmp_path)
    runner = await shared.launch("doomed", "echo output")
    await shared.over(runner.id)
    assert shared.output(runner)
    await shared.ask("delete_project", "doomed")
    assert (tmp_path / "precious").read_text() == "work"
    with pytest.raises(NotFound):
        await shared.ask("get_project", "doomed")
    with pytest.raises(NotFound):
        await shared.get(runner.id)
    assert not shared.paths.environment(runner.id).exists()
    assert list(shared.paths.logs.glob(f"*/{runner.id}.*")) == []
    assert shared.told("doomed")[-1] == "project.deleted"


@together
async def test_a_name_is_free_again_after_its_project(shared: House) -> None:
    for _ in range(2):
        await shared.project("again")
        await shared.ask("delete_project", "again")


def names(projects: list[Project]) -> list[str]:
    return [project.name for project in projects]
