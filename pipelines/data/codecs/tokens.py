r"""Text to words or characters, as TensorFlow graph code with core operations only.

RE2 (Google's regular expressions, which TensorFlow uses) knows Unicode classes but no look-around,
and its \b, \d and \s are ASCII. Each rule here matches something rare and puts spaces around it:
rewriting rare matches runs at 100 MB/s, matching every word at 4.

TensorFlow's core has no Unicode normalisation: composed and decomposed accents stay different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

MARKUP = (
    (r"(?is)<(?:script|style)\b.*?</(?:script|style)\s*>", " "),
    (r"(?s)<!--.*?-->", " "),
    (r"</?[A-Za-z][^<>]*>", " "),
    (r"&(?:nbsp|#160);", " "),
    (r"&(?:quot|#0?34);", '"'),
    (r"&(?:apos|#0?39|rsquo|lsquo);", "'"),
    (r"&(?:lt|#60);", "<"),
    (r"&(?:gt|#62);", ">"),
    # Last: otherwise "&amp;lt;" would be decoded twice.
    (r"&(?:amp|#38);", "&"),
)

CLEAN = (
    # Soft hyphens, byte-order marks and writing directions are invisible.
    (r"[\x{00AD}\x{FEFF}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2069}]", ""),
    # Every other separator and control character is a space. U+200B separates words in Khmer.
    (
        r"[\x00-\x08\x0E-\x1F\x7F-\x{A0}\x{1680}\x{2000}-\x{200B}\x{2028}\x{2029}\x{202F}\x{205F}"
        r"\x{3000}]",
        " ",
    ),
)

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
"""Scripts without spaces; each letter, with its combining marks, is a word."""

# A symbol with its modifiers: variation selectors, skin tones, tags, and others joined to it.
MODIFIED = r"(?:\p{M}|[\x{1F3FB}-\x{1F3FF}]|[\x{E0020}-\x{E007F}]|\x{200D}\p{S}\p{M}*)*"

WORDS = (
    (r"[’ʼ＇]", "'"),
    # Apostrophes not inside a word are quotation marks.
    (r"('+)([^\p{L}\p{N}']|$)", r" \1 \2"),
    (r"(^|[^\p{L}\p{M}\p{N}'])('+)", r"\1 \2 "),
    # English contractions as in the Penn Treebank, and so in most word vectors: do n't, it 's.
    # The other apostrophe protects n't from the elision rule.
    (r"(?i)(\pL)(n)'(t)\b", r"\1 \2’\3"),
    (r"(?i)([\p{L}\p{N}])('(?:s|re|ve|ll|d|m)\b)", r"\1 \2"),
    # Elision: l' homme, dell' arte.
    (r"(\p{Latin}')(\p{Latin})", r"\1 \2"),
    (r"’", "'"),
    # Between digits a full stop or a comma belongs to the number.
    (r"([.,])(\pL)", r" \1 \2"),
    (r"(\pL)([.,])", r"\1 \2 "),
    (
        r"(\.{2,}|-{2,}|\B[.,]|[.,]\B|[\x{1F1E6}-\x{1F1FF}]{2}|"
        rf"[^\p{{L}}\p{{M}}\p{{N}}\p{{Cf}}\s'.,]{MODIFIED})",
        r" \1 ",
    ),
    (rf"([{UNSPACED}]\p{{M}}*)", r" \1 "),
)

PUNCTUATION = r"[\p{P}\p{Sm}\p{Sc}^`¨¯´¸]\p{M}*"
"""What punctuation=drop removes. Emoji and other pictographs are no punctuation."""

ATTACHED = (
    # For decoding: characters without a space before, after, or between them.
    (rf"([{UNSPACED}]\p{{M}}*) ", r"\1"),
    (rf" ([{UNSPACED}])", r"\1"),
    (r" ([.,;:!?%)\]}…»”。、！？」』）]+)", r"\1"),
    (r"([(\[{«“¿¡「『（#$€£]) ", r"\1"),
    (r" (n't|'(?:s|re|ve|ll|d|m))\b", r"\1"),
    (r"(\p{Latin}') (\p{Latin})", r"\1\2"),
    (r"([\p{L}\p{N}]) ([-/_@]) ([\p{L}\p{N}])", r"\1\2\3"),
)


def normalise(values: tf.Tensor, *, lowercase: bool, strip_markup: bool) -> tf.Tensor:
    """(B,) bytes to (B,) valid UTF-8; bytes that are none become U+FFFD."""
    import tensorflow as tf

    values = tf.strings.unicode_transcode(values, "UTF-8", "UTF-8", errors="replace")
    values = _rewrite(values, (*MARKUP, *CLEAN) if strip_markup else CLEAN)
    return tf.strings.lower(values, encoding="utf-8") if lowercase else values


def words(values: tf.Tensor, *, punctuation: bool) -> tf.RaggedTensor:
    """(B,) normalised text to (B, words). Words keep no spaces; a row may be empty."""
    import tensorflow as tf

    tokens = tf.strings.split(_rewrite(values, WORDS))
    if punctuation:
        return tokens
    dropped = tf.strings.regex_full_match(tokens.flat_values, f"(?:{PUNCTUATION})+")
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(~dropped))


def characters(values: tf.Tensor, *, punctuation: bool) -> tf.RaggedTensor:
    """(B,) normalised text to (B, characters) int32 code points; white space is single spaces."""
    import tensorflow as tf

    if not punctuation:
        values = without_punctuation(values)
    values = tf.strings.strip(tf.strings.regex_replace(values, r"\s\s+|[\t\r\n\f]", " "))
    return tf.strings.unicode_decode(values, "UTF-8")


def without_punctuation(values: tf.Tensor) -> tf.Tensor:
    """(B,) text to (B,) text with spaces in place of punctuation marks."""
    return _rewrite(values, ((PUNCTUATION, " "),))


def join(tokens: tf.RaggedTensor) -> tf.Tensor:
    """(B, words) to (B,) text with usual spacing; the inverse of `words`, as far as possible."""
    import tensorflow as tf

    return _rewrite(tf.strings.reduce_join(tokens, axis=1, separator=" "), ATTACHED)


def _rewrite(values: tf.Tensor, rules: tuple[tuple[str, str], ...]) -> tf.Tensor:
    import tensorflow as tf

    for pattern, replacement in rules:
        values = tf.strings.regex_replace(values, pattern, replacement)
    return values
