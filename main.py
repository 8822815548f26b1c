"""From data to a trained, measured, explained and deployable recurrent model, in one command.

    python main.py task=sentiment model=gru

TensorFlow is imported only once the configuration is known to be good; see `python main.py --help`.
"""

import os
import re
import sys

import hydra
from omegaconf import DictConfig

from pipelines.contracts import UserError
from pipelines.schema import register_resolvers


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def start(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from pipelines.pipeline import run

    hydra_config = HydraConfig.get()
    run(composed, hydra_config.overrides.task, hydra_config.runtime.output_dir)


def main() -> int:
    """Runs the command line. Returns the exit code: 0, 1 for a mistake or a failure, 130 if stopped."""
    register_resolvers()
    # Hydra then lets exceptions through, so that each is told once and in our words.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = [sys.argv[0], *map(_quoted, sys.argv[1:])]
    try:
        start()
    except KeyboardInterrupt as interruption:
        return _fail(str(interruption) or "stopped", code=130)
    except Exception as error:
        return _fail(_explained(error))
    return 0


def _explained(error: Exception) -> str:
    """One line for what a user can mend; anything else is a defect and keeps its traceback."""
    if isinstance(error, UserError):
        return str(error)
    if _raised_in(error).startswith(("hydra.", "omegaconf.", "antlr4.")):
        from pipelines.errors import explain_hydra

        return explain_hydra(error, sys.argv[1:])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    raise error


def _raised_in(error: Exception) -> str:
    """The module whose code raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""


def _quoted(argument: str) -> str:
    """Free text after input= as Hydra's grammar wants it, so that people needn't know the grammar."""
    key, equals, value = argument.partition("=")
    if key not in ("input", "output") or not equals or value in ("", "null"):
        return argument
    value = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{value}'"


def _fail(message: str, code: int = 1) -> int:
    print(f"error: {message}" if code == 1 else message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
