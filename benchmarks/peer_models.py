"""What classifiers are compared with: Keras' documented recipe and fit, and ours in PyTorch.

Each is an object that takes a number of steps when asked, and that can say how well it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

RECIPE_BATCH = 32


class Recipe:
    """The bidirectional LSTM of the Keras documentation, trained as there.

    https://keras.io/examples/nlp/bidirectional_lstm_imdb/: 20,000 words, the last 200 of a review,
    padded on the left; embedding of 128; two bidirectional LSTMs of 64; Adam as it comes, binary
    cross-entropy, batches of 32. The step is the one that model.fit takes.
    """

    def __init__(self, texts: np.ndarray, labels: np.ndarray, vocabulary: int, seed: int):
        import keras
        from keras import layers

        keras.utils.set_random_seed(seed)
        inputs = keras.Input(shape=(None,), dtype="int32")
        x = layers.Embedding(vocabulary, 128)(inputs)
        x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
        x = layers.Bidirectional(layers.LSTM(64))(x)
        outputs = layers.Dense(1, activation="sigmoid")(x)
        self.model = keras.Model(inputs, outputs)
        self.model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        self.texts, self.labels = texts, labels
        self.steps_per_epoch = -(-len(texts) // RECIPE_BATCH)
        self._function = self.model.make_train_function()
        self._batches = self._stream(seed)

    def _stream(self, seed: int) -> Any:
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((self.texts, self.labels.astype(np.float32)))
        data = data.shuffle(len(self.texts), seed=seed).batch(RECIPE_BATCH)
        return iter(data.repeat().prefetch(tf.data.AUTOTUNE))

    def steps(self, count: int) -> None:
        for _ in range(count):
            logs = self.model.train_function(self._batches)
        float(logs["loss"])

    def accuracy(self, texts: np.ndarray, labels: np.ndarray) -> float:
        said = self.model.predict(texts, batch_size=256, verbose=0)[:, 0] > 0.5
        return float(np.mean(said == labels))


class PlainKeras:
    """A classifier as tutorials write it, in the step of `model.fit`.

    Masked embedding, one recurrent layer that returns its last state, a dense layer; Adam as it
    comes; shuffled batches, each padded to its longest. `tokens` counts those that were read.
    """

    def __init__(self, texts: Any, cell: str, batch: int):
        import keras
        import tensorflow as tf

        config, sizes = texts.config, texts.sizes
        keras.utils.set_random_seed(1)
        kinds = {
            "simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU
        }  # fmt: skip
        layer = kinds[cell.removeprefix("bi_")](config.model.width)
        self.model = keras.Sequential(
            [
                keras.layers.Embedding(
                    sizes["tokens"], config.task.embedding.width, mask_zero=True
                ),
                keras.layers.Bidirectional(layer) if cell.startswith("bi_") else layer,
                keras.layers.Dense(sizes["label"], activation="softmax"),
            ]
        )
        self.model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.tokens = 0
        columns = texts.train.gather(np.arange(len(texts.train)))
        rows = tuple(columns[name] for name in ("tokens", "tokens_length", "label"))
        data = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows[0]), seed=1).repeat()
        data = data.batch(batch).map(lambda tokens, lengths, labels: (
            tokens[:, :tf.reduce_max(lengths)], labels, tf.reduce_sum(lengths)
        ))  # fmt: skip
        self._batches = iter(data.prefetch(tf.data.AUTOTUNE))
        self._function = self.model.make_train_function()

    def steps(self, count: int) -> None:
        for _ in range(count):
            tokens, labels, read = next(self._batches)
            logs = self.model.train_function(iter([(tokens, labels)]))
            self.tokens += int(read)
        float(logs["loss"])


def torch_batch(columns: Mapping[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """Tokens (B, T), lengths (B,) on the way down, labels (B,): what packing wants."""
    import torch

    order = np.argsort(-columns["tokens_length"], kind="stable")
    sorted_columns = [columns[name][order] for name in ("tokens", "tokens_length", "label")]
    tokens, lengths, labels = (torch.from_numpy(c.astype(np.int64)) for c in sorted_columns)
    return tokens, lengths, labels


class TorchLearner:
    """Our default classifier and its update in PyTorch, the way its documentation has it.

    Embedding with dropout of words and features, one recurrent layer over packed sequences (with
    packed=False: over padding too), mean and maximum over real positions, dropout, a dense layer;
    Adam, fused; gradients clipped by their global norm; a moving average of the weights.
    """

    def __init__(self, config: Any, vocabulary: int, classes: int, *, packed: bool = True):
        import torch

        torch.manual_seed(config.seed)
        self.model = _classifier(config, vocabulary, classes, packed)
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.Adam(parameters, config.train.learning_rate, fused=True)
        self.clip, self.decay = config.train.clip_norm, config.train.ema_decay
        self.averages = [parameter.detach().clone() for parameter in parameters]

    def train(self, batches: Iterable[tuple[Any, Any, Any]]) -> None:
        import torch

        parameters = list(self.model.parameters())
        self.model.train()
        for tokens, lengths, labels in batches:
            self.optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self.model(tokens, lengths), labels)
            loss.backward()
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, self.clip)
            self.optimizer.step()
            if self.decay:
                with torch.no_grad():
                    torch._foreach_lerp_(self.averages, parameters, 1 - self.decay)
            loss.item()


def _classifier(config: Any, vocabulary: int, classes: int, packed: bool) -> Any:
    """A torch.nn.Module: tokens (B, T), lengths (B,) -> logits (B, classes)."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    model, task = config.model, config.task
    kind = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[model.cell]

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = model.width * (2 if model.bidirectional else 1)
            self.embedding = nn.Embedding(vocabulary, task.embedding.width, padding_idx=0)
            self.words = task.embedding.word_dropout
            self.features = nn.Dropout(task.embedding.dropout)
            self.encoder = kind(
                task.embedding.width, model.width, batch_first=True,
                bidirectional=model.bidirectional,
            )  # fmt: skip
            self.drop = nn.Dropout(task.dropout)
            self.logits = nn.Linear(2 * width, classes)

        def forward(self, tokens: Any, lengths: Any) -> Any:
            x = self.embedding(tokens)
            kept = nn.functional.dropout(torch.ones(tokens.shape), self.words, self.training)
            x = self.features(x * kept[..., None])
            if packed:
                y, _ = self.encoder(pack_padded_sequence(x, lengths, batch_first=True))
                y, _ = pad_packed_sequence(y, batch_first=True)
            else:
                y, _ = self.encoder(x)
            real = (torch.arange(y.shape[1]) < lengths[:, None])[..., None]
            mean = (y * real).sum(1) / lengths[:, None]
            most = y.masked_fill(~real, torch.finfo(y.dtype).min).amax(1)
            return self.logits(self.drop(torch.cat([mean, most], 1)))

    return Classifier()
