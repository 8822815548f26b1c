"""Settings of the stages: types and ranges, free of TensorFlow; the values are in conf/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.settings import MOST, Count, Rate, Whole, settings
from pipelines.core.types import Config

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Scalar = bool | int | float | str


@settings
class PrepareSettings:
    """How the data is divided and kept; see pipelines/data/prepare.py and division.py.

    validation, test  shares of the examples, for the splits that the source doesn't bring.
    division          hash: any row may go anywhere; related: texts that share rare words, and their
                      neighbours, stay together; blocks: neighbouring rows stay together; time: the
                      latest rows are the test split.
    group_by          columns of the data, such as a user or a film: rows with the same value in one
                      of them never go to different splits. With division=hash or related.
    block_rows        neighbouring rows that stay together with division=blocks.
    time_column       numbers or ISO 8601 dates, for division=time; null: rows stand in that order.
    bad_rows          share of rows that may be unreadable before that is an error.
    limit             use only this many examples.
    split_seed        of what is random in the division.
    """

    validation: Annotated[float, Field(gt=0, lt=0.5)]
    test: Annotated[float, Field(gt=0, lt=0.5)]
    bad_rows: Share
    limit: Count | None
    division: Literal["hash", "related", "blocks", "time"]
    group_by: str | list[str] | None
    block_rows: Count
    time_column: str | None
    split_seed: Annotated[int, Field(ge=-MOST, le=MOST)]
    cache_dir: str


MOST_KEPT = 10
"""Most checkpoints that a run keeps."""


@settings
class TrainSettings:
    """How a model is trained; see pipelines/train/loop.py.

    batch_tokens, batch_examples  a batch holds as many examples as fit into both.
    bucket_by_length  whether the examples of a batch have similar lengths, so that little is
                      padding. false pays where padding is cheap and examples of one length are too
                      much alike.
    curriculum        epochs until all examples take part: the shortest first (Platanios et al.
                      2019, section 3, with length as difficulty and linear competence).
    warmup            share of all training steps (below 1) or a number of steps.
    final_lr_ratio    the last learning rate divided by the highest.
    clip_norm         bound on the global norm of the gradients.
    accumulation_steps  batches whose gradients are summed for one training step.
    ema_decay         of the exponential moving average of the weights, which is what is evaluated
                      and saved; null: the weights themselves.
    checkpoint_averaging  this many of the best checkpoints are averaged at the end, if their mean
                      scores better than the best alone.
    monitor           validation score that decides which weights are saved.
    patience          evaluations without improvement before training stops.
    evaluate_every    training steps between evaluations; null for the end of each epoch.
    checkpoints       how many of the last ones are kept, should the newest be damaged.
    device            what each worker computes on.
    workers           processes that share each batch; null: one, or as many as TF_CONFIG or Slurm
                      say; 1: this one alone, whatever they say.
    ray               Ray starts the workers, on the cluster at RAY_ADDRESS or this machine.
    ray_failures      how often all workers are restarted after one has died; -1: no limit.
    """

    epochs: Count
    max_steps: Count | None
    batch_tokens: Count
    batch_examples: Count | None
    bucket_by_length: bool
    curriculum: Whole
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"]
    learning_rate: Positive
    weight_decay: NotNegative
    momentum: Rate
    schedule: Literal["constant", "linear", "cosine", "exponential"]
    warmup: NotNegative
    final_lr_ratio: Share
    clip_norm: Positive | None
    accumulation_steps: Count
    ema_decay: Rate | None
    checkpoint_averaging: Count
    monitor: str | None
    patience: Count | None
    evaluate_every: Count | None
    checkpoint_seconds: Positive
    checkpoints: Annotated[int, Field(ge=1, le=MOST_KEPT)]
    precision: Literal["float32", "mixed_bfloat16"]
    device: Literal["auto", "cpu", "gpu"]
    workers: Annotated[int, Field(ge=1, le=10_000)] | None
    ray: bool
    ray_failures: Annotated[int, Field(ge=-1, le=MOST)]
    deterministic: bool
    tensorboard: bool
    mlflow: str | None


@settings
class EvaluateSettings:
    """The measurements after training; see pipelines/evaluate/evaluation.py.

    against  directory of another run on the same data, to compare with example by example.
    """

    splits: Annotated[list[Literal["train", "validation", "test"]], Field(min_length=1)]
    batch_tokens: Count
    resamples: Annotated[int, Field(ge=100, le=1_000_000)]
    diagnostics: bool
    against: str | None


@settings
class PredictSettings:
    """How predictions are written; see pipelines/predict/.

    formulas  keep: texts are written as they are, so that programs find them again; escape: an
              apostrophe makes texts of those in CSV and TSV that a spreadsheet would compute.
    """

    formulas: Literal["keep", "escape"]


@settings
class ExportSettings:
    """The exports of a trained model; see pipelines/export/.

    saved_model  write it.
    verify       test examples that a fresh process predicts again; 0 for none.
    formats      numeric cores in other formats, each compared with the original.
    sample       test examples that they are compared and scored on.
    """

    saved_model: bool
    verify: Whole
    formats: list[Literal["litert", "onnx"]]
    sample: Count


@settings
class SweepSettings:
    """Several runs from one command; see pipelines/sweep/.

    space       by setting, values in Hydra's grammar: choice, range, interval, tag(log, ...); or
                {values: ..., when: {SETTING: VALUE or [VALUE, ...]}}, searched only there.
    fixed       settings of every run, as on the command line.
    trials      total number in the study, whichever commands ran them.
    objectives  the first one decides where one is needed; see pipelines/sweep/objectives.py.
    start_from  first trial of a search: the defaults of the settings, where the space contains
                them, or random like the others.
    prune_after, prune_from  finished trials before any is pruned; evaluations that each may make.
    prune_share  a run is pruned unless it is among this best share of the finished ones, compared
                after as many evaluations.
    parallel    concurrent runs, each with its share of the cores.
    seconds     after which this command starts no more runs.
    run_seconds, run_gigabytes  limits of a run.
    failures    share of all trials that may fail before the sweep stops.
    storage     an RDB's URL, for a study on several machines; or the environment variable or the
                file that holds the URL, as one with a password must be given.
    name        of the study and its directory; null: the same for the same command.
    """

    sampler: Literal["grid", "random", "tpe", "gp", "cmaes"]
    space: dict[str, Scalar | Config] | None
    fixed: list[str]
    trials: Count | None
    objectives: Annotated[list[str], Field(min_length=1)]
    start_from: Literal["defaults", "random"]
    pruner: Literal["none", "median", "hyperband"]
    prune_after: Whole
    prune_from: Whole
    prune_share: Annotated[float, Field(gt=0, lt=1)]
    parallel: Annotated[int, Field(ge=1, le=10_000)]
    seconds: Positive | None
    run_seconds: Positive | None
    run_gigabytes: Positive | None
    failures: Share
    retry: bool
    storage: str | None
    name: Annotated[str, Field(pattern=r"^[^/]+$")] | None


@settings
class ServeSettings:
    """How runs are served; see pipelines/serve/.

    name             each run's name in the URLs, separated by commas; null for its task's name.
    host             the address to listen on; one that others can reach needs a token.
    port             the port to listen on; 0 for any that is free.
    token            the environment variable or the file that holds the token.
    origins          addresses besides its own under which browsers have the server's pages, such
                     as a proxy's; see pipelines/serve/origins.py.
    web              whether "/" is a page on which models can be tried.
    batch_rows       most rows in a batch of several requests; 1 for no batching.
    batch_timeout    seconds that an idle model waits for as many requests as its last batch had.
    max_rows         most rows in a request.
    max_headers      most bytes in a request's URL and headers.
    max_body         most bytes in a request's body.
    max_pixels       most pixels in an image.
    max_queue        most requests that a model handles or holds in its queue.
    max_connections  most connections; fewer where the limit of open files (ulimit -n) is lower.
    header_timeout   seconds until a connection is closed whose request has no complete headers.
    idle_timeout     seconds until a connection is closed that has no further request, or whose
                     client doesn't read the response.
    timeout          seconds until a request is aborted.
    drain_seconds    seconds between SIGTERM and the moment when no request is accepted any more.
    reload_interval  seconds between two checks for new versions.
    """

    name: str | None
    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    token: str | None
    origins: list[str]
    web: bool
    batch_rows: Count
    batch_timeout: NotNegative
    max_rows: Count
    max_headers: Annotated[int, Field(ge=1024, le=MOST)]
    max_body: Count
    max_pixels: Count
    max_queue: Count
    max_connections: Count
    header_timeout: Positive
    idle_timeout: Positive
    timeout: Positive
    drain_seconds: NotNegative
    reload_interval: Positive
