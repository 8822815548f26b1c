"""Search for token sequences in the graph, batched, for any decoder that goes step by step.

Shapes: B inputs, K hypotheses of each, A answers, T tokens, S source positions, V vocabulary.

A hypothesis is finished by the end marker, which is a token like any other: it needs a
probability, counts in the hypothesis' length, and at the maximum length is the only choice left.
So every answer is complete, scores are comparable whatever the length, and a beam as wide as the
number of sequences finds the best of all.

Beam search continues the K best unfinished hypotheses; one finishes if its end is among the K best
next tokens of all. An input is done when K hypotheses have finished, or when no unfinished one can
reach the worst of the answers kept, however it continued. Inputs that are done leave the batch.
Answers never depend on what else is in the batch. Greedy search is a beam of 1.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from models.backpointers import Backpointers, append_step, start_table, trace_back
from models.hypotheses import (
    ActiveHypotheses,
    ActiveInputs,
    FinishedHypotheses,
    Hypotheses,
    Maybe,
    Nest,
    SearchInputs,
)
from models.settings import Beam, Greedy, Sample, SearchSettings
from models.token_choice import (
    IMPOSSIBLE,
    Choice,
    NextTokens,
    SpecialTokens,
    choose_best,
    choose_sampled,
    forbid_repeats,
    merge_beams,
    sample_uniform,
)

Step = Callable[[tf.Tensor, Nest, Nest], tuple[tf.Tensor, Nest, tf.Tensor]]
"""step(ids, state, memory) -> logits, state, attention: one position of K hypotheses an input.

ids (B, K) int32, the previous tokens; state, a nest of (B, K, ...); memory, a nest of (B, ...), the
same for all hypotheses of an input, so that it is never repeated or reordered; logits (B, K, V), V
static; attention (B, K, S), or (B, K, 0) if there is none. B and K change from step to step.
"""

_UNKNOWN_SHAPE = tf.TensorShape(None)  # type: ignore[arg-type]

COMPACT_THRESHOLD = 1 / 8
"""Inputs that are done leave the batch once they are this share of it, as that takes a copy."""


_Loop: TypeAlias = tuple[
    tf.Tensor, ActiveHypotheses, ActiveInputs, FinishedHypotheses, Backpointers
]


def search(
    step: Step,
    inputs: SearchInputs,
    settings: SearchSettings,
    tokens: SpecialTokens,
    *,
    return_attention: bool = False,
) -> Hypotheses:
    """The best sequences that are found for each input; graph code."""
    if not isinstance(settings, Greedy | Beam | Sample):
        raise ValueError(f"a search is greedy, beam or sample; got {settings.strategy}.")
    if tokens.end in tokens.forbidden:
        raise ValueError(
            f"the end marker must be possible; got {tokens.end}, forbidden {tokens.forbidden}."
        )
    return _Search(step, settings, tokens, return_attention).run(_hide_batch_size(inputs))


class _Search:
    """One search: its settings, and the loop."""

    def __init__(
        self,
        step: Step,
        settings: Greedy | Beam | Sample,
        tokens: SpecialTokens,
        return_attention: bool,
    ) -> None:
        self.step, self.settings, self.tokens = step, settings, tokens
        self.return_attention = return_attention
        self.sampling = settings if isinstance(settings, Sample) else None
        beam = settings if isinstance(settings, Beam) else None
        self.answers = 1 if isinstance(settings, Greedy) else settings.answers
        self.beam = beam.beam if beam else self.answers
        self.length_penalty = beam.length_penalty if beam else 0.0
        self.coverage_penalty = beam.coverage_penalty if beam else 0.0

    def run(self, inputs: SearchInputs) -> Hypotheses:
        """Runs steps until every input is done."""
        rows = self._start_rows(inputs)
        active = self._start_hypotheses(inputs.state, tf.shape(inputs.source_length)[0])
        table = start_table(attention=self.return_attention)
        loop = (tf.constant(0), active, rows, rows.finished, table)
        shapes = (
            tf.TensorShape([]),
            tf.nest.map_structure(lambda x: _loosen(x, 2), active)._replace(
                history=_loosen(active.history, 3), coverage=_loosen(active.coverage, 3)
            ),
            tf.nest.map_structure(lambda x: _loosen(x, 1), rows),
            tf.nest.map_structure(lambda x: _loosen(x, 1), rows.finished),
            tf.nest.map_structure(lambda _: _UNKNOWN_SHAPE, table),
        )
        *_, finished, table = tf.while_loop(
            # At least once, or the width of the attention would be unknown.
            lambda t, active, rows, *_: (t == 0) | (tf.shape(rows.position)[0] > 0),
            self._advance,
            loop,
            shape_invariants=shapes,
        )
        ids, attention = trace_back(table, finished.entry, finished.length)
        return Hypotheses(ids, finished.length, finished.score, finished.log_probability, attention)

    def _start_rows(self, inputs: SearchInputs) -> ActiveInputs:
        source_length = tf.cast(inputs.source_length, tf.int32)
        # In float64: 1.1 * 10 is more than 11 in float32.
        ratio = self.settings.maximum_ratio * tf.cast(source_length, tf.float64)
        max_length = tf.cast(tf.math.ceil(ratio), tf.int32) + self.settings.maximum_extra
        batch = tf.shape(source_length)[0]
        nothing = tf.fill([batch, self.answers], IMPOSSIBLE)
        zero = tf.zeros([batch, self.answers], tf.int32)
        uniform: Maybe = ()
        if self.sampling is not None:
            uniform = sample_uniform(self.sampling, max_length, inputs.sample_ids)
        return ActiveInputs(
            position=tf.range(batch),
            max_length=max_length,
            source_length=source_length,
            finished_count=tf.zeros([batch], tf.int32),
            finished=FinishedHypotheses(nothing, nothing, zero, zero),
            memory=inputs.memory,
            uniform=uniform,
        )

    def _start_hypotheses(self, state: Nest, batch: tf.Tensor) -> ActiveHypotheses:
        """One hypothesis of each input, or when sampling one for each answer."""
        count = self.answers if self.sampling else 1
        n = self.settings.no_repeat_ngram
        return ActiveHypotheses(
            ids=tf.fill([batch, count], self.tokens.begin),
            entry=tf.zeros([batch, count], tf.int32),
            log_probability=tf.zeros([batch, count]),
            state=tf.nest.map_structure(lambda x: tf.repeat(x[:, tf.newaxis], count, 1), state),
            # -1 is no token, so that nothing before the beginning completes an n-gram.
            history=() if n is None else tf.fill([batch, count, n - 1], -1),
            coverage=tf.zeros([batch, count, 1]) if self.coverage_penalty else (),
        )

    def _advance(
        self,
        t: tf.Tensor,
        active: ActiveHypotheses,
        rows: ActiveInputs,
        finished: FinishedHypotheses,
        table: Backpointers,
    ) -> _Loop:
        """One step: each hypothesis, of t tokens, finishes or gets one more.

        finished is of all inputs, and is filled in when they leave `rows`.
        """
        logits, state, attention = self.step(active.ids, active.state, rows.memory)
        self._check(logits, attention)
        tf.nest.map_structure(_keep_shape, state, active.state)
        attention = tf.cast(attention, tf.float32)
        coverage: Maybe = active.coverage + attention if self.coverage_penalty else ()
        choice = self._choose(t, tf.cast(logits, tf.float32), active, rows)
        rows, log_probability = self._finish(t, choice, active.entry, coverage, rows)
        has_active = tf.reduce_any(log_probability > IMPOSSIBLE, 1)
        staying, rows, finished = _compact(has_active, rows, finished)
        token = tf.gather(choice.token, staying)
        # The hypothesis that each continues, numbered over all inputs.
        parent = staying[:, tf.newaxis] * tf.shape(active.ids)[1]
        parent += tf.gather(choice.parent, staying)

        def reorder(x: tf.Tensor) -> tf.Tensor:
            return tf.gather(merge_beams(x), parent)

        weights = merge_beams(reorder(attention)) if self.return_attention else ()
        table, entry = append_step(table, t, token, reorder(active.entry), weights)
        history = active.history
        if self.settings.no_repeat_ngram is not None:
            history = tf.concat([reorder(history), token[..., tf.newaxis]], 2)
        active = ActiveHypotheses(
            ids=token,
            entry=entry,
            log_probability=tf.gather(log_probability, staying),
            state=tf.nest.map_structure(reorder, state),
            history=history,
            coverage=reorder(coverage) if self.coverage_penalty else (),
        )
        return t + 1, active, rows, finished, table

    def _check(self, logits: tf.Tensor, attention: tf.Tensor) -> None:
        size = logits.shape[-1]
        if size is None or max(self.tokens.end, *self.tokens.forbidden, 0) >= size:
            raise ValueError(
                "logits (B, K, V) need a V that is known when the graph is made, and above all "
                f"markers; got {logits.shape}, end {self.tokens.end}, "
                f"forbidden {self.tokens.forbidden}."
            )
        if self.coverage_penalty and attention.shape[-1] == 0:
            raise ValueError(
                "a coverage penalty goes with attention, and this decoder has none: set it to 0."
            )

    def _choose(
        self, t: tf.Tensor, logits: tf.Tensor, active: ActiveHypotheses, rows: ActiveInputs
    ) -> Choice:
        n = self.settings.no_repeat_ngram
        end_forced = (t >= rows.max_length)[:, tf.newaxis]
        at = NextTokens(
            logits=logits,
            allowed=logits if n is None else forbid_repeats(logits, active.history, n),
            log_probability=active.log_probability,
            end_allowed=end_forced | (t >= self.settings.minimum_length),
            end_forced=end_forced,
        )
        if self.sampling is not None:
            return choose_sampled(at, rows.uniform[:, :, t], self.sampling, self.tokens)
        return choose_best(at, self.beam, self.tokens)

    def _finish(
        self, t: tf.Tensor, choice: Choice, entry: tf.Tensor, coverage: Maybe, rows: ActiveInputs
    ) -> tuple[ActiveInputs, tf.Tensor]:
        """Keeps the A best finished hypotheses of each input.

        Also returns the log-probabilities of the unfinished ones, -inf where the input is done.
        """
        score = self._score(choice.end, t) + self._coverage(coverage, rows.source_length)
        new = FinishedHypotheses(score, choice.end, tf.fill(tf.shape(score), t), entry)
        all_finished = tf.nest.map_structure(lambda *x: tf.concat(x, 1), rows.finished, new)
        order = tf.math.top_k(all_finished.score, self.answers).indices
        finished = tf.nest.map_structure(lambda x: tf.gather(x, order, batch_dims=1), all_finished)
        ended = tf.cast(choice.end > IMPOSSIBLE, tf.int32)
        count = rows.finished_count + tf.reduce_sum(ended, 1)
        # The best score that an unfinished hypothesis can still reach: log-probability and coverage
        # only fall, and a longer hypothesis is only divided by more.
        bound = self._score(tf.reduce_max(choice.log_probability, 1), rows.max_length)
        done = (count >= self.beam) | self._is_settled(finished.score[:, -1], bound)
        log_probability = tf.where(done[:, tf.newaxis], IMPOSSIBLE, choice.log_probability)
        return rows._replace(finished_count=count, finished=finished), log_probability

    def _is_settled(self, worst: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
        """Whether no score up to `bound` would change the answers; of equals the first stays."""
        return worst >= bound

    def _score(self, log_probability: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """Wu et al. 2016, eq. 14, where |Y| counts the end marker, as the log-probability does."""
        length = tf.cast(tokens + 1, tf.float32)
        return log_probability / ((5 + length) / 6) ** self.length_penalty

    def _coverage(self, coverage: Maybe, source_length: tf.Tensor) -> tf.Tensor | float:
        """The penalty (B, K), at most 0, for source positions that got little attention."""
        if not self.coverage_penalty:
            return 0.0
        # With a floor: one position without attention must not make a hypothesis impossible.
        logs = tf.math.log(tf.clip_by_value(coverage, 1e-6, 1.0))
        real = tf.sequence_mask(source_length, tf.shape(coverage)[2])[:, tf.newaxis]
        return self.coverage_penalty * tf.reduce_sum(tf.where(real, logs, 0.0), 2)


def _hide_batch_size(inputs: SearchInputs) -> SearchInputs:
    """The same inputs, with a B that is unknown until the graph runs.

    Where it is known, TensorFlow's constant folding takes the first step's number of rows for that
    of every step, though rows leave.
    """
    every = tf.where(tf.convert_to_tensor(inputs.source_length) >= 0)[:, 0]
    state, memory, source_length = tf.nest.map_structure(
        lambda x: tf.gather(x, every), (inputs.state, inputs.memory, inputs.source_length)
    )
    return SearchInputs(state, memory, source_length, inputs.sample_ids)


def _loosen(x: Maybe, axes: int) -> tf.TensorShape | tuple[()]:
    """The shape of x with its first axes unknown."""
    if isinstance(x, tuple):
        return ()
    return tf.TensorShape([None] * axes).concatenate(x.shape[axes:])


def _keep_shape(new: tf.Tensor, old: tf.Tensor) -> None:
    """Restores the static shapes of a state, as a loop demands."""
    new.set_shape(tf.TensorShape([None, None]).concatenate(old.shape[2:]))


def _compact(
    has_active: tf.Tensor, rows: ActiveInputs, finished: FinishedHypotheses
) -> tuple[tf.Tensor, ActiveInputs, FinishedHypotheses]:
    """Removes the inputs that are done, not has_active (B,) bool, once there are enough of them.

    Returns which rows stay, and these. The results of those that leave go into `finished`, which
    is of all inputs.
    """
    count = tf.size(has_active)

    def remove() -> tuple[tf.Tensor, ActiveInputs, FinishedHypotheses]:
        staying = tf.cast(tf.where(has_active)[:, 0], tf.int32)
        position = rows.position[:, tf.newaxis]
        filled = tf.nest.map_structure(
            lambda every, new: tf.tensor_scatter_nd_update(every, position, new),
            finished,
            rows.finished,
        )
        return staying, tf.nest.map_structure(lambda x: tf.gather(x, staying), rows), filled

    still_active = tf.reduce_sum(tf.cast(has_active, tf.float32))
    enough = still_active <= (1 - COMPACT_THRESHOLD) * tf.cast(count, tf.float32)
    return tf.cond(enough, remove, lambda: (tf.range(count), rows, finished))
