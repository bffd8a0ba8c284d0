"""The set-up command: what it says to a machine that lacks something, and what it does not do twice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BOOTSTRAP = ROOT / "packaging" / "bootstrap.py"


def bootstrap(*arguments: str, lacking: str = "", script: Path = BOOTSTRAP) -> subprocess.CompletedProcess[str]:
    """Run it with a line of Python before it that takes something away."""
    code = f"import runpy, sys; sys.argv = {[str(script), *arguments]!r}; {lacking}\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_an_old_python_can_read_it() -> None:
    ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("sys.version_info = (3, 9, 2)", "Python 3.11 or newer, and this is 3.9"),
        ("sys.modules['ensurepip'] = None", "apt install python3-venv"),
        ("sys.modules['venv'] = None", "apt install python3-venv"),
        ("sys.platform = 'darwin'", "runs on Linux"),
    ],
)
@pytest.mark.parametrize("verb", ["up", "test"])
def test_what_is_missing_is_said_in_one_line_before_anything_is_made(
    tmp_path: Path, verb: str, lacking: str, said: str
) -> None:
    script = tmp_path / "clone" / "packaging" / "bootstrap.py"
    script.parent.mkdir(parents=True)
    script.write_text(BOOTSTRAP.read_text())
    done = bootstrap(verb, lacking=lacking, script=script)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert list(script.parent.parent.iterdir()) == [script.parent]


def test_an_unknown_verb_is_a_usage_error_and_help_is_not() -> None:
    assert bootstrap("upp").returncode == 2
    helped = bootstrap("--help")
    assert helped.returncode == 0
    assert "python3 packaging/bootstrap.py test" in helped.stdout


def test_the_readme_tells_both_commands_and_ci_runs_the_same() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "\npython3 packaging/bootstrap.py up\n" in readme
    assert "\npython3 packaging/bootstrap.py test\n" in readme
    assert "python3 packaging/bootstrap.py test" in (ROOT / ".ci" / "run").read_text()


def test_each_folder_of_an_installed_package_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of a bundle, and found only beside the clone."""
    folders = {file.parent for file in (ROOT / "stratavore").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
