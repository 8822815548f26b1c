"""Where memory ends, one line says what to make smaller."""

from __future__ import annotations

import pytest
import tensorflow as tf
from conftest import Command

from pipelines import pipeline


def of_numpy() -> None:
    raise MemoryError("Unable to allocate 8.00 TiB\nfor an array")


def of_tensorflow() -> None:
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\na tensor")


@pytest.mark.parametrize("end", [of_numpy, of_tensorflow])
def test_what_to_make_smaller_is_said_in_one_line(
    end, command_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", lambda *_: end())
    result = command_here()
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: there is not enough memory (")
    assert "an array" in line or "a tensor" in line
    assert "train.batch_tokens" in line
    assert "model.width" in line
