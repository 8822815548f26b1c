"""What tasks that write text share: searching for it, its likelihood, and writing it step by step.

A translation and a caption differ in what is read; how an answer is written from it is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from models.attention import Memory
from models.decoding import search
from models.hypotheses import Hypotheses, SearchInputs
from models.settings import SearchSettings
from models.token_choice import SpecialTokens
from models.token_decoder import DecoderState, TokenDecoder
from pipelines.core.task import Signature
from pipelines.core.types import Nest, Tensors
from pipelines.data.codecs.text import BEGIN, END, PAD, UNKNOWN, TextCodec
from pipelines.graphs.tracing import flatten_nest, pack_nest

Start = tuple[Memory, DecoderState]
"""A decoder's memory and its first state."""

Read = Callable[[Tensors], Start]
"""From a task's inputs to what is decoded from them: memory and state at the start."""


class InputFacts(NamedTuple):
    """Facts of the inputs that a search needs.

    length        (B,) int32, which the longest answer goes by.
    sample_ids    (B,) int32: a sample is drawn by it, so that it doesn't depend on the batch.
    replacements  (B, S): what stands at each position of the memory, as text, to replace unknown
                  tokens by; None if they must not be written.
    """

    length: tf.Tensor
    sample_ids: tf.Tensor | None = None
    replacements: tf.Tensor | None = None


class Writer(NamedTuple):
    """The decoder that generates token ids, and the codec that makes text of them."""

    decoder: TokenDecoder
    codec: TextCodec


def write(
    writer: Writer,
    start: Start,
    decode: SearchSettings,
    facts: InputFacts,
    *,
    detail: bool = False,
) -> dict[str, tf.Tensor]:
    """Graph code: what the decoder writes for each row, from the memory and state at the start.

    "text" (B,) and its "score" (B,), by which `decode` ranks; with several answers also "texts" and
    "scores" (B, A), the best first. In detail also "tokens" (B, T), as text, and the "attention"
    (B, T, S) that each had.
    """
    decoder, codec = writer
    replaces = facts.replacements is not None
    hypotheses = search_ids(decoder, start, decode, facts, attention=detail or replaces)
    tokens = codec.tokens(hypotheses.ids)
    if facts.replacements is not None:
        tokens = _replace_unknown(hypotheses, tokens, facts.replacements)
    shape = tf.shape(tokens)
    texts = codec.join(tf.reshape(tokens, [shape[0] * shape[1], shape[2]]))
    texts = tf.reshape(texts, shape[:2])
    outputs = {"text": texts[:, 0], "score": hypotheses.score[:, 0]}
    if hypotheses.ids.shape[1] != 1:
        outputs |= {"texts": texts, "scores": hypotheses.score}
    if detail:
        outputs |= {"tokens": tokens[:, 0], "attention": hypotheses.attention[:, 0]}
    return outputs


def search_ids(
    decoder: TokenDecoder,
    start: Start,
    decode: SearchSettings,
    facts: InputFacts,
    *,
    attention: bool = False,
) -> Hypotheses:
    """Graph code: the ids that `decode` finds; unknown tokens only where they can be replaced."""
    memory, state = start
    unknown = facts.replacements is not None
    return search(
        decoder.step,
        SearchInputs(state, memory, facts.length, facts.sample_ids),
        decode,
        SpecialTokens(BEGIN, END, (PAD, BEGIN) if unknown else (PAD, UNKNOWN, BEGIN)),
        return_attention=attention,
    )


def sample_ids(ids: tf.Tensor) -> tf.Tensor:
    """(B,) int32 by the content of ids (B, T), whatever the padding: sums of ids by place."""
    place = tf.range(1, tf.shape(ids)[1] + 1, dtype=tf.int64)
    factors = (place * 2654435761) % (2**31 - 1)
    return tf.cast(tf.reduce_sum(tf.cast(ids, tf.int64) * factors, 1) % (2**31 - 1), tf.int32)


def _replace_unknown(hypotheses: Hypotheses, tokens: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """Replaces unknown tokens (B, A, T) by the source tokens (B, S) with the most attention."""
    place = tf.argmax(hypotheses.attention, -1, output_type=tf.int32)
    return tf.where(hypotheses.ids == UNKNOWN, tf.gather(source, place, batch_dims=1), tokens)


def stepwise(
    writer: Writer, read: Read, inputs: Mapping[str, tf.TensorSpec]
) -> dict[str, Signature]:
    """Signatures with which a client writes by itself, such as to stream: encode, step and text.

    encode  the raw inputs -> memory_* (B, S, ...) and state_* (B, 1, ...).
    step    ids (B, K) int32, the tokens before (at first 2, the begin marker), memory_* and state_*
            -> log_probabilities (B, K, V) of the next tokens (3 is the end), state_* and attention
            (B, K, S). K hypotheses of an input share its memory.
    text    ids (B, T) int32, 0 after the end -> text (B,).
    """
    decoder, codec = writer
    structure: dict[str, Nest] = {}

    def encode(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        memory, state = read(raw)
        structure.update(memory=memory, state=state)
        state = tf.nest.map_structure(lambda x: x[:, tf.newaxis], state)
        return {**flatten_nest("memory", memory), **flatten_nest("state", state)}

    outputs = (
        tf.function(encode, autograph=False).get_concrete_function(**inputs).structured_outputs
    )
    specs = {"ids": tf.TensorSpec([None, None], tf.int32)}
    for name, tensor in outputs.items():
        axes = [None, None] if name.startswith("state") else [None]
        specs[name] = tf.TensorSpec([*axes, *tensor.shape[len(axes) :]], tensor.dtype)

    def step(ids: tf.Tensor, **tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        memory, state = (pack_nest(part, structure[part], tensors) for part in ("memory", "state"))
        logits, state, attention = decoder.step(ids, state, memory)
        log_probabilities = tf.nn.log_softmax(logits)
        outputs = {"log_probabilities": log_probabilities, "attention": attention}
        return {**outputs, **flatten_nest("state", state)}

    def text(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": codec.text(ids)}

    return {
        "encode": Signature(encode, inputs),
        "step": Signature(step, specs),
        "text": Signature(text, {"ids": tf.TensorSpec([None, None], tf.int32)}),
    }
