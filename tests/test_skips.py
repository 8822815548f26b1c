"""In CI a test that is skipped for an unexpected reason is a failure; elsewhere it is listed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

EXPECTED = "import pytest\ndef test_it():\n    pytest.skip('slow: run with --slow')\n"
UNEXPECTED = """
import pytest
@pytest.mark.skipif(True, reason="needs chromium")
def test_it(): pass
@pytest.mark.xfail
def test_of_something_else(): assert False
"""
MODULE = "import pytest\npytest.importorskip('no_such_package', reason='needs an extra')\n"


@pytest.mark.parametrize(
    ("text", "reason", "arguments", "environment", "code"),
    [
        (EXPECTED, "slow: run with --slow", ["--fail-on-skip"], "", 0),
        (UNEXPECTED, "needs chromium", ["--fail-on-skip"], "", 1),
        (MODULE, "needs an extra", ["--numprocesses", "1", "--dist", "loadfile"], "", 0),
        (MODULE, "needs an extra", [], "true", 1),
        (MODULE, "needs an extra", ["--numprocesses", "1", "--dist", "loadfile"], "true", 1),
    ],
    ids=["expected", "unexpected", "not in CI", "module in CI", "module in CI, in parallel"],
)
def test_an_unexpected_skip_fails_in_ci_alone_and_is_listed_everywhere(
    text: str, reason: str, arguments: list[str], environment: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "test_passes.py").write_text("def test_it(): pass\n")
    (tmp_path / "test_skips.py").write_text(text)
    given = {
        "PYTHONPATH": str(ROOT / "tests/support"),
        "CI": environment,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skips", "-p", "xdist", *arguments],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **given}, check=False,
    )  # fmt: skip
    assert result.returncode == code, result.stdout
    lines = result.stdout.splitlines()
    assert f"   1 {reason}" in lines
    assert (f"error: unexpected skip: {reason}" in lines) == bool(code)
