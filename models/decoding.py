"""Search for sequences of tokens in the graph, batched, for any decoder that goes step by step.

Shapes: B inputs, K hypotheses of each, A answers, T tokens, S source positions, V vocabulary.

A hypothesis is finished by the end marker, which is a token like any other: it needs a
probability, counts in the hypothesis' length, and at the maximum length is the only choice left.
So every answer is whole, scores compare whatever the length, and with a beam as wide as the
number of sequences the best of all is found.

Beam search goes on with the K best unfinished hypotheses; one finishes if its end is among the K
best next tokens of all. An input is done when K hypotheses have finished, or when no unfinished
one can reach the worst of the answers kept, however it went on. Inputs that are done leave the
batch. Answers never depend on what else is in the batch. Greedy search is a beam of 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from models import records
from models.choices import NEVER, Choice, best, drawn, flat, position
from models.records import Records
from models.settings import Beam, Greedy, Sample, SearchSettings

Step = Callable[[tf.Tensor, Any, Any], tuple[tf.Tensor, Any, tf.Tensor]]
"""step(ids, state, memory) -> logits, state, attention: one position of K hypotheses a row.

ids (B, K) int32, the tokens before; state, a nest of (B, K, ...); memory, a nest of (B, ...), the
same for all hypotheses of a row, so that it is never repeated or reordered; logits (B, K, V), V
static; attention (B, K, S), or (B, K, 0) if there is none. B and K change from step to step.
"""

LEAVE = 1 / 8
"""Inputs that are done leave the batch when they are such a share of it, as that takes a copy."""


class Hypotheses(NamedTuple):
    """Answers to each input, the best first.

    ids (B, A, T) int32, without the end marker, 0 after the end; T is that of the longest, at
    least 1. length (B, A) int32. score (B, A): what ranks them, for a beam with its penalties, else
    the log-probability. log_probability (B, A): the sum over tokens and end marker, by the model as
    it is, whatever the temperature and what is forbidden. attention (B, A, T, S) or, if not asked
    for or not given by the step, (B, A, T, 0). Where there are fewer than A sequences the length is
    0 and the score -inf.
    """

    ids: tf.Tensor
    length: tf.Tensor
    score: tf.Tensor
    log_probability: tf.Tensor
    attention: tf.Tensor


class _Open(NamedTuple):
    """Unfinished hypotheses, each leaf (B, K, ...): what is reordered after a step.

    ids: the last tokens; place: their records. log_probability is -inf where there is no
    hypothesis. history (B, K, n - 1 + t), tokens, and coverage (B, K, S), the sum of attention, are
    () where nothing asks for them.
    """

    ids: tf.Tensor
    place: tf.Tensor
    log_probability: tf.Tensor
    state: Any
    history: Any
    coverage: Any


class _Finished(NamedTuple):
    """Finished hypotheses, each (B, A), from high score to low; score -inf where there is none.

    place: the record of the last token.
    """

    score: tf.Tensor
    log_probability: tf.Tensor
    length: tf.Tensor
    place: tf.Tensor


class _Rows(NamedTuple):
    """The inputs that are still searched for, each leaf (B, ...).

    number: which of all inputs it is. maximum: most tokens. count: of hypotheses finished so far.
    uniform (B, K, T): random numbers, or () if none are needed.
    """

    number: tf.Tensor
    maximum: tf.Tensor
    source_length: tf.Tensor
    count: tf.Tensor
    finished: _Finished
    memory: Any
    uniform: Any


def search(
    step: Step,
    state: Any,
    memory: Any,
    *,
    settings: SearchSettings,
    begin: int,
    end: int,
    forbidden: Sequence[int],
    source_length: tf.Tensor,
    want_attention: bool = False,
    numbers: tf.Tensor | None = None,
) -> Hypotheses:
    """The best sequences that are found for each input; graph code.

    state, memory  nests of (B, ...): state before the first token, and what stays as it is.
    begin, end     markers: the token before the first, and the one after the last.
    forbidden      tokens that are never chosen, such as padding and the begin marker.
    source_length  (B,) int32, which the maximum length goes by.
    numbers        (B,) int32: inputs of different numbers draw different samples; those of the
                   same number and seed the same. Their place in the batch, if not given.
    """
    if not isinstance(settings, Greedy | Beam | Sample):
        raise ValueError(f"a search is greedy, beam or sample; got {settings.strategy}.")
    if end in forbidden:
        raise ValueError(f"the end marker must be possible; got {end}, forbidden {forbidden}.")
    made = _Search(step, settings, begin, end, forbidden, want_attention)
    state, memory, source_length = _open_batch((state, memory, source_length), source_length)
    return made.run(state, memory, tf.cast(source_length, tf.int32), numbers)


class _Search:
    """One search: its settings, and the loop."""

    def __init__(
        self,
        step: Step,
        settings: Greedy | Beam | Sample,
        begin: int,
        end: int,
        forbidden: Sequence[int],
        want_attention: bool,
    ) -> None:
        self.step, self.settings = step, settings
        self.begin, self.end, self.forbidden = begin, end, forbidden
        self.want_attention = want_attention
        self.sampling = settings if isinstance(settings, Sample) else None
        beam = settings if isinstance(settings, Beam) else None
        self.answers = 1 if isinstance(settings, Greedy) else settings.answers
        self.beam = beam.beam if beam else self.answers
        self.length_penalty = beam.length_penalty if beam else 0.0
        self.coverage_penalty = beam.coverage_penalty if beam else 0.0

    def run(
        self, state: Any, memory: Any, source_length: tf.Tensor, numbers: tf.Tensor | None
    ) -> Hypotheses:
        """Steps until every input is done."""
        rows = self._rows(memory, source_length, numbers)
        open = self._start(state, tf.shape(source_length)[0])
        kept = records.empty(attention=self.want_attention)
        loop = (tf.constant(0), open, rows, rows.finished, kept)
        shapes = (
            tf.TensorShape([]),
            tf.nest.map_structure(lambda x: _loose(x, 2), open)._replace(
                history=_loose(open.history, 3), coverage=_loose(open.coverage, 3)
            ),
            tf.nest.map_structure(lambda x: _loose(x, 1), rows),
            tf.nest.map_structure(lambda x: _loose(x, 1), rows.finished),
            tf.nest.map_structure(lambda _: tf.TensorShape(None), kept),
        )
        *_, finished, kept = tf.while_loop(
            # At least once, or nobody would know the width of the attention.
            lambda t, open, rows, *_: (t == 0) | (tf.shape(rows.number)[0] > 0),
            self._advance,
            loop,
            shape_invariants=shapes,
        )
        ids, attention = records.follow(kept, finished.place, finished.length)
        return Hypotheses(ids, finished.length, finished.score, finished.log_probability, attention)

    def _rows(self, memory: Any, source_length: tf.Tensor, numbers: tf.Tensor | None) -> _Rows:
        # In float64: 1.1 * 10 is more than 11 in float32.
        ratio = self.settings.maximum_ratio * tf.cast(source_length, tf.float64)
        maximum = tf.cast(tf.math.ceil(ratio), tf.int32) + self.settings.maximum_extra
        batch = tf.shape(source_length)[0]
        never = tf.fill([batch, self.answers], NEVER)
        zero = tf.zeros([batch, self.answers], tf.int32)
        return _Rows(
            number=tf.range(batch),
            maximum=maximum,
            source_length=source_length,
            count=tf.zeros([batch], tf.int32),
            finished=_Finished(never, never, zero, zero),
            memory=memory,
            uniform=() if self.sampling is None else _uniform(self.sampling, maximum, numbers),
        )

    def _start(self, state: Any, batch: tf.Tensor) -> _Open:
        """One hypothesis of each input, or when sampling one for each answer."""
        many = self.answers if self.sampling else 1
        n = self.settings.no_repeat_ngram
        return _Open(
            ids=tf.fill([batch, many], self.begin),
            place=tf.zeros([batch, many], tf.int32),
            log_probability=tf.zeros([batch, many]),
            state=tf.nest.map_structure(lambda x: tf.repeat(x[:, tf.newaxis], many, 1), state),
            # Before the beginning stands no token, so that nothing there completes an n-gram.
            history=() if n is None else tf.fill([batch, many, n - 1], -1),
            coverage=tf.zeros([batch, many, 1]) if self.coverage_penalty else (),
        )

    def _advance(
        self, t: tf.Tensor, open: _Open, rows: _Rows, finished: _Finished, kept: Records
    ) -> tuple[tf.Tensor, _Open, _Rows, _Finished, Records]:
        """One step: each hypothesis, of t tokens, finishes or gets one more.

        finished is of all inputs, and filled in when they leave `rows`.
        """
        logits, state, attention = self.step(open.ids, open.state, rows.memory)
        self._check(logits, attention)
        tf.nest.map_structure(_keep_shape, state, open.state)
        attention = tf.cast(attention, tf.float32)
        coverage = open.coverage + attention if self.coverage_penalty else ()
        choice = self._choose(t, tf.cast(logits, tf.float32), open, rows)
        rows, going = self._finish(t, choice, open.place, coverage, rows)
        stay, rows, finished = _leave(tf.reduce_any(going > NEVER, 1), rows, finished)
        token = tf.gather(choice.token, stay)
        # Which hypothesis each continues, numbered over all rows.
        parent = stay[:, tf.newaxis] * tf.shape(open.ids)[1] + tf.gather(choice.parent, stay)

        def continued(x: tf.Tensor) -> tf.Tensor:
            return tf.gather(flat(x), parent)

        seen = flat(continued(attention)) if self.want_attention else ()
        kept, place = records.add(kept, t, token, continued(open.place), seen)
        history = open.history
        if self.settings.no_repeat_ngram is not None:
            history = tf.concat([continued(history), token[..., tf.newaxis]], 2)
        open = _Open(
            ids=token,
            place=place,
            log_probability=tf.gather(going, stay),
            state=tf.nest.map_structure(continued, state),
            history=history,
            coverage=continued(coverage) if self.coverage_penalty else (),
        )
        return t + 1, open, rows, finished, kept

    def _check(self, logits: tf.Tensor, attention: tf.Tensor) -> None:
        size = logits.shape[-1]
        if size is None or max(self.end, *self.forbidden, 0) >= size:
            raise ValueError(
                "logits (B, K, V) need a V that is known when the graph is made, and above all "
                f"markers; got {logits.shape}, end {self.end}, forbidden {self.forbidden}."
            )
        if self.coverage_penalty and attention.shape[-1] == 0:
            raise ValueError(
                "a coverage penalty goes with attention, and this decoder has none: set it to 0."
            )

    def _choose(self, t: tf.Tensor, logits: tf.Tensor, open: _Open, rows: _Rows) -> Choice:
        must = (t >= rows.maximum)[:, tf.newaxis]
        may = must | (t >= self.settings.minimum_length)
        n = self.settings.no_repeat_ngram
        at = position(logits, open.log_probability, open.history, n, may=may, must=must)
        if self.sampling is not None:
            return drawn(at, rows.uniform[:, :, t], self.sampling, self.end, self.forbidden)
        return best(at, self.beam, self.end, self.forbidden)

    def _finish(
        self, t: tf.Tensor, choice: Choice, place: tf.Tensor, coverage: Any, rows: _Rows
    ) -> tuple[_Rows, tf.Tensor]:
        """Keeps the A best that have finished; log-probabilities, -inf in rows that are done."""
        score = self._score(choice.end, t) + self._coverage(coverage, rows.source_length)
        new = _Finished(score, choice.end, tf.fill(tf.shape(score), t), place)
        every = tf.nest.map_structure(lambda *x: tf.concat(x, 1), rows.finished, new)
        order = tf.math.top_k(every.score, self.answers).indices
        finished = tf.nest.map_structure(lambda x: tf.gather(x, order, batch_dims=1), every)
        ended = tf.cast(choice.end > NEVER, tf.int32)
        count = rows.count + tf.reduce_sum(ended, 1)
        # Log-probabilities and coverage only fall; a longer hypothesis is only divided by more.
        reach = self._score(tf.reduce_max(choice.log_probability, 1), rows.maximum)
        done = (count >= self.beam) | self._beaten(finished.score[:, -1], reach)
        going = tf.where(done[:, tf.newaxis], NEVER, choice.log_probability)
        return rows._replace(count=count, finished=finished), going

    def _beaten(self, worst: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
        """Whether no score up to `reach` would change the answers; of two alike the first stays."""
        return worst >= reach

    def _score(self, log_probability: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """Wu et al. 2016, eq. 14, where |Y| counts the end marker, as the log-probability does."""
        length = tf.cast(tokens + 1, tf.float32)
        return log_probability / ((5 + length) / 6) ** self.length_penalty

    def _coverage(self, coverage: Any, source_length: tf.Tensor) -> Any:
        """The penalty (B, K), at most 0, for source positions that got little attention."""
        if not self.coverage_penalty:
            return 0.0
        # The floor: one position never looked at must not make a hypothesis impossible.
        logs = tf.math.log(tf.clip_by_value(coverage, 1e-6, 1.0))
        real = tf.sequence_mask(source_length, tf.shape(coverage)[2])[:, tf.newaxis]
        return self.coverage_penalty * tf.reduce_sum(tf.where(real, logs, 0.0), 2)


def _uniform(settings: Sample, maximum: tf.Tensor, numbers: tf.Tensor | None) -> tf.Tensor:
    """Random numbers (B, A, T) in [0, 1), one a token; a row's depend on nothing but the row."""
    numbers = tf.range(tf.size(maximum)) if numbers is None else tf.cast(numbers, tf.int32)
    # A row more, as an empty batch has no shape.
    numbers, maximum = tf.pad(numbers, [[0, 1]]), tf.pad(maximum, [[0, 1]])
    longest = tf.reduce_max(maximum) + 1

    def of_row(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        number, length = row[0], row[1] + 1
        # As many as this row may need, since what is drawn may go by how much is drawn.
        drawn = tf.random.stateless_uniform([settings.answers, length], [settings.seed, number])
        return tf.pad(drawn, [[0, 0], [0, longest - length]])

    signature = tf.TensorSpec([settings.answers, None], tf.float32)
    return tf.map_fn(of_row, (numbers, maximum), fn_output_signature=signature)[:-1]


def _open_batch(given: Any, source_length: tf.Tensor) -> Any:
    """given, leaves (B, ...), with a B that nobody knows before the graph runs.

    Where it is known, TensorFlow's constant folding takes the first step's number of rows for that
    of every step, though rows leave.
    """
    every = tf.where(tf.convert_to_tensor(source_length) >= 0)[:, 0]
    return tf.nest.map_structure(lambda x: tf.gather(x, every), given)


def _loose(x: Any, axes: int) -> Any:
    """The shape of x with its first axes unknown."""
    if isinstance(x, tuple):
        return ()
    return tf.TensorShape([None] * axes).concatenate(x.shape[axes:])


def _keep_shape(new: tf.Tensor, old: tf.Tensor) -> None:
    """What is known of a state's shape stays known, as a loop demands."""
    new.set_shape(tf.TensorShape([None, None]).concatenate(old.shape[2:]))


def _leave(
    going: tf.Tensor, rows: _Rows, finished: _Finished
) -> tuple[tf.Tensor, _Rows, _Finished]:
    """Which rows stay, and these: all, or only those going (B,) bool, if enough are done.

    What was found for them is then put into `finished`, which is of all inputs.
    """
    count = tf.size(going)

    def leave() -> tuple[tf.Tensor, _Rows, _Finished]:
        stay = tf.cast(tf.where(going)[:, 0], tf.int32)
        place = rows.number[:, tf.newaxis]
        filled = tf.nest.map_structure(
            lambda all, new: tf.tensor_scatter_nd_update(all, place, new), finished, rows.finished
        )
        return stay, tf.nest.map_structure(lambda x: tf.gather(x, stay), rows), filled

    left = tf.reduce_sum(tf.cast(going, tf.float32))
    enough = left <= (1 - LEAVE) * tf.cast(count, tf.float32)
    return tf.cond(enough, leave, lambda: (tf.range(count), rows, finished))
