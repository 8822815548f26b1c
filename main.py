"""From data to a trained, measured, explained and deployable recurrent model, in one command.

    python main.py task=sentiment model=gru

TensorFlow is imported only once the configuration is known to be good; see `python main.py --help`.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig

from pipelines.config.hydra_hooks import register_resolvers
from pipelines.config.quoting import quote_free_text
from pipelines.core.errors import SMALLER, UserError, is_out_of_memory
from pipelines.core.paths import CONF
from pipelines.core.plain_text import error_line, show_controls
from pipelines.core.streams import flushed_output, open_closed_streams
from pipelines.distributed.cluster import WORKER_LOST_EXIT_CODE, WorkerLostError
from pipelines.sweep.hydra_sweeper import register_plugins


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def start(composed: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from pipelines.pipeline import run

    hydra_config = HydraConfig.get()
    with _one_line_errors():
        run(composed, hydra_config.overrides.task, hydra_config.runtime.output_dir)


def main() -> None:
    """Runs the command line. Exits with 0, 1 for a mistake or a failure, 128 and more if a
    signal stopped it: 130 for Ctrl-C, 143 for SIGTERM; 75 if another worker was lost.
    """
    open_closed_streams()
    register_resolvers()
    register_plugins()
    # Hydra then lets exceptions through, so that each is reported once, in our words.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Where the log can't be written, nor can what matters, which is reported in one line.
    logging.raiseExceptions = False
    if not any(argument.lstrip("+").startswith("hydra.mode=") for argument in sys.argv):
        # Hydra would compose all once more, which takes as long as the rest, only to look there.
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    with _one_line_errors(), flushed_output():
        sys.argv = [sys.argv[0], *_command_line(sys.argv[1:])]
        start()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Exits with one line for what a user can mend; a defect keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        print(f"\n{show_controls(str(interruption)) or 'stopped'}", file=sys.stderr)
        from pipelines.runs.signals import exit_code, exit_soon

        exit_soon(exit_code(interruption))
    except WorkerLostError as error:
        print(error_line(error), file=sys.stderr, flush=True)
        sys.exit(WORKER_LOST_EXIT_CODE)
    except UserError as error:
        sys.exit(error_line(error))
    except BrokenPipeError:
        sys.exit(1)  # who reads the answers has enough, as `head` has
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            sys.exit(error_line(f"{error.filename or 'a file'}: {error.strerror}"))
        if is_out_of_memory(error):
            sys.exit(error_line(f"there is not enough memory ({str(error)[:160]}): {SMALLER}"))
        if _raising_module(error).startswith(("hydra.", "omegaconf.", "antlr4.")):
            from pipelines.config.messages import explain_hydra

            sys.exit(error_line(explain_hydra(error, sys.argv[1:])))
        raise


def _raising_module(error: Exception) -> str:
    """The module whose code raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""


def _command_line(arguments: list[str]) -> list[str]:
    """The arguments for Hydra: free text quoted and, with run=DIRECTORY, the run's own options."""
    from pipelines.runs.directory import Run
    from pipelines.runs.overrides import recorded_options

    values = dict(argument.partition("=")[::2] for argument in arguments)
    is_run = values.get("run") and values.get("mode") != "serve"
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - values.keys()
    options = recorded_options(Run(values["run"]), groups) if is_run else []
    sweep = not {"-m", "--multirun"}.isdisjoint(arguments)
    command = [argument if sweep else quote_free_text(argument) for argument in arguments]
    # All overrides must stand together, after options such as --config-dir, for argparse.
    first = next((i for i, a in enumerate(command) if "=" in a and a[0] != "-"), len(command))
    return [*command[:first], *options, *command[first:]]


if __name__ == "__main__":
    main()
