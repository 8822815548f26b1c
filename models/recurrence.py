"""Recurrences over whole sequences on a CPU: one loop forward, one loop back, derived by hand.

The loops hold only what depends on the step before: inputs arrive already projected, and the
gradients of the recurrent weights are matrix products over all steps after the loop back,
where automatic differentiation adds them up step by step. Every gate has its own matrix
product: splitting one product's result, or joining gradients for one, costs more than the
smaller products do.

All sequences are time-major, (T, B, ·). They are padded at the end; the loops run through the
padding, outputs there are set to 0, and no gradient comes from there, so that real positions
never see it. Recurrent matrices U are as in Keras: gates z, r, c (gru) and i, f, g, o (lstm)
side by side. Each function is one algorithm: the loop back reads what the loop forward kept.

`keep` (T, B, 1) is False on padding, or None if there is none. `drop` (B, W) multiplies the
state where it meets the recurrent matrix (Gal & Ghahramani 2016, arXiv:1512.05287), or None.
`training` False keeps nothing but the outputs, so that memory stays small and an exported graph
has no gradient of its own; TensorFlow can still derive one, slowly.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from models.padding import at

# Each activation, and its derivative times dy as a function of its value y.
_ACTIVATIONS = {
    "tanh": (tf.tanh, lambda y, dy: tf.raw_ops.TanhGrad(y=y, dy=dy)),
    "sigmoid": (tf.sigmoid, lambda y, dy: tf.raw_ops.SigmoidGrad(y=y, dy=dy)),
    "relu": (tf.nn.relu, lambda y, dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)),
}
_d_tanh = _ACTIVATIONS["tanh"][1]
_d_sigmoid = _ACTIVATIONS["sigmoid"][1]


def _lists(sequences: list[tf.Tensor]) -> list[tf.TensorArray]:
    """Each (T, B, W) as a list of its steps; the memory is shared, not copied."""
    return [
        tf.TensorArray(x.dtype, tf.shape(x)[0], clear_after_read=False).unstack(x)
        for x in sequences
    ]


def _loop(
    length: tf.Tensor,
    body: Callable[..., tuple[Any, ...]],
    variables: list[tf.Tensor],
    records: int,
    like: tf.Tensor,
) -> tuple[list[tf.Tensor], list[tf.TensorArray]]:
    """Runs body(step) for steps 0 .. length - 1.

    body(step, *variables) -> variables, then `records` tuples (index, matrix), each of which is
    kept in a list of its own. like (·, W) gives the shape of a matrix. Returns the last
    variables, the lists.
    """
    rooms = [
        tf.TensorArray(
            like.dtype,
            length,
            element_shape=[variables[0].shape[0], like.shape[-1]],
            clear_after_read=False,
        )
        for _ in range(records)
    ]
    count = len(variables)

    def once(step: tf.Tensor, *rest: Any) -> tuple[Any, ...]:
        results = body(step, *rest[:count])
        written = zip(rest[count:], results[count:], strict=True)
        return (step + 1, *results[:count], *(room.write(*record) for room, record in written))

    start = (tf.constant(0), *variables, *rooms)
    _, *results = tf.while_loop(lambda step, *_: step < length, once, start)
    return results[:count], results[count:]


def _zero_padding(values: tf.Tensor, keep: tf.Tensor | None) -> tf.Tensor:
    return values if keep is None else tf.where(keep, values, tf.zeros([], values.dtype))


def _dropped(states: tf.Tensor, drop: tf.Tensor | None) -> tf.Tensor:
    return states if drop is None else states * drop


def _kernel_gradient(
    states: tf.Tensor, initial: tf.Tensor, drop: tf.Tensor | None, gates: list[tf.Tensor]
) -> tf.Tensor:
    """Gradient of U (W, nW), which met the state before each step, from n gates' (T, B, W).

    states (T, B, W), each after its step; initial (B, W). The two aren't put into one tensor, which
    would cost as much as a product of it.
    """
    width = states.shape[-1]
    first = _dropped(initial, drop)
    later = tf.reshape(_dropped(states[:-1], drop), [-1, width])

    def product(gate: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(gate[1:], [-1, width])
        return tf.matmul(later, rows, transpose_a=True) + tf.matmul(
            first, gate[0], transpose_a=True
        )

    return tf.concat([product(gate) for gate in gates], -1)


def _transposed(kernel: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Uᵀ of each of so many gates: once is soon done, and loops then read it faster."""
    return tf.split(tf.transpose(kernel), count)


def _through(gates: list[tf.Tensor], transposed: list[tf.Tensor]) -> tf.Tensor:
    """Sum over gates of dgate Uᵀ: (B, W)."""
    pairs = zip(gates, transposed, strict=True)
    return tf.add_n([tf.matmul(gate, kernel) for gate, kernel in pairs])


def _apply(run: Callable[..., tuple[Any, Any]], training: bool, *tensors: tf.Tensor) -> Any:
    """Outputs of run(*tensors) -> (outputs, gradient), with that gradient in training."""
    return tf.custom_gradient(run)(*tensors) if training else run(*tensors)[0]


def simple_rnn(
    x: tf.Tensor,
    state: tf.Tensor,
    kernel: tf.Tensor,
    activation: str,
    keep: tf.Tensor | None = None,
    drop: tf.Tensor | None = None,
    *,
    training: bool = True,
) -> tf.Tensor:
    """h_t = f(x_t + h_{t-1} U) (Elman 1990).

    Projected inputs with bias x (T, B, W); state (B, W); U (W, W); activation "tanh", "relu" or
    "sigmoid". Returns h (T, B, W).
    """
    apply, derive = _ACTIVATIONS[activation]
    length = tf.shape(x)[0]

    def run(x: tf.Tensor, state: tf.Tensor, kernel: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
        (inputs,) = _lists([x])

        def forward(t: tf.Tensor, h: tf.Tensor) -> tuple[Any, ...]:
            h = apply(inputs.read(t) + tf.matmul(_dropped(h, drop), kernel))
            return h, (t, h)

        _, (outputs,) = _loop(length, forward, [state], 1, like=kernel)
        y = _zero_padding(outputs.stack(), keep)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,), transposed = _lists([_zero_padding(dy, keep)]), _transposed(kernel, 1)

            def backward(step: tf.Tensor, dh: tf.Tensor) -> tuple[Any, ...]:
                t = length - 1 - step
                gate = derive(outputs.read(t), dh + incoming.read(t))
                return _dropped(_through([gate], transposed), drop), (t, gate)

            (dstate,), gates = _loop(length, backward, [tf.zeros_like(state)], 1, like=kernel)
            gates = gates[0].stack()
            return gates, dstate, _kernel_gradient(y, state, drop, [gates])

        return y, gradient

    return _apply(run, training, x, state, kernel)


def gru(
    x: list[tf.Tensor],
    state: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    keep: tf.Tensor | None = None,
    drop: tf.Tensor | None = None,
    *,
    training: bool = True,
) -> tf.Tensor:
    """Gated recurrent unit, reset gate after the matrix product (Cho et al. 2014; cuDNN's form).

    z, r = σ(x + h U);  q = h U + b;  c = tanh(x + r q);  h' = z h + (1 - z) c

    Projected inputs with bias x = (x_z, x_r, x_c), each (T, B, W); state (B, W); U (W, 3W);
    b (W,). Returns h (T, B, W).
    """
    length, records = tf.shape(x[0])[0], 6 if training else 1

    def run(
        x_z: tf.Tensor,
        x_r: tf.Tensor,
        x_c: tf.Tensor,
        state: tf.Tensor,
        kernel: tf.Tensor,
        bias: tf.Tensor,
    ) -> tuple[Any, Callable[..., Any]]:
        in_z, in_r, in_c = _lists([x_z, x_r, x_c])
        kernels = tf.split(kernel, 3, axis=-1)

        def forward(t: tf.Tensor, h: tf.Tensor) -> tuple[Any, ...]:
            u_z, u_r, u_q = (tf.matmul(_dropped(h, drop), u) for u in kernels)
            z, r = tf.sigmoid(in_z.read(t) + u_z), tf.sigmoid(in_r.read(t) + u_r)
            q = tf.nn.bias_add(u_q, bias)
            c = tf.tanh(in_c.read(t) + r * q)
            before, h = h, c + z * (h - c)
            return h, *((t, record) for record in (h, z, r, q, c, before)[:records])

        _, saved = _loop(length, forward, [state], records, like=kernels[0])
        y = _zero_padding(saved[0].stack(), keep)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,) = _lists([_zero_padding(dy, keep)])
            transposed = _transposed(kernel, 3)

            def backward(step: tf.Tensor, dh: tf.Tensor) -> tuple[Any, ...]:
                t = length - 1 - step
                z, r, q, c, before = (values.read(t) for values in saved[1:])
                dh = dh + incoming.read(t)
                kept = dh * z
                dc = _d_tanh(c, dh - kept)
                dz = _d_sigmoid(z, dh * (before - c))
                dr, dq = _d_sigmoid(r, dc * q), dc * r
                dh = _dropped(_through([dz, dr, dq], transposed), drop) + kept
                return dh, *((t, record) for record in (dz, dr, dq, dc))

            start = [tf.zeros_like(state)]
            (dstate,), gates = _loop(length, backward, start, 4, like=kernels[0])
            dz, dr, dq, dc = (gate.stack() for gate in gates)
            dkernel = _kernel_gradient(y, state, drop, [dz, dr, dq])
            return dz, dr, dc, dstate, dkernel, tf.reduce_sum(dq, [0, 1])

        return y, gradient

    return _apply(run, training, *x, state, kernel, bias)


def lstm(
    x: list[tf.Tensor],
    state: tf.Tensor,
    carry: tf.Tensor,
    kernel: tf.Tensor,
    last: tf.Tensor,
    keep: tf.Tensor | None = None,
    drop: tf.Tensor | None = None,
    *,
    training: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    i, f, o = σ(x + h U);  g = tanh(x + h U);  c' = f c + i g;  h' = o tanh(c')

    Projected inputs with bias x = (x_i, x_f, x_g, x_o), each (T, B, W); state h and carry c
    (B, W); U (W, 4W); last (B,) int32, each sequence's last real position. Returns
    h (T, B, W) and c at `last` (B, W).
    """
    length, records = tf.shape(x[0])[0], 8 if training else 2

    def run(
        x_i: tf.Tensor,
        x_f: tf.Tensor,
        x_g: tf.Tensor,
        x_o: tf.Tensor,
        state: tf.Tensor,
        carry: tf.Tensor,
        kernel: tf.Tensor,
    ) -> tuple[Any, Callable[..., Any]]:
        inputs = _lists([x_i, x_f, x_g, x_o])
        kernels = tf.split(kernel, 4, axis=-1)

        def forward(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[Any, ...]:
            h, before = _dropped(h, drop), c
            i, f, g, o = (a.read(t) + tf.matmul(h, u) for a, u in zip(inputs, kernels, strict=True))
            i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
            c = f * c + i * g
            tanh_c = tf.tanh(c)
            h = o * tanh_c
            kept = (h, c, i, f, g, o, tanh_c, before)[:records]
            return h, c, *((t, record) for record in kept)

        (_, end), saved = _loop(length, forward, [state, carry], records, like=kernels[0])
        y = _zero_padding(saved[0].stack(), keep)
        if keep is not None:  # otherwise all sequences end at the last step
            end = at(saved[1].stack(), last)

        def gradient(dy: tf.Tensor, dend: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,) = _lists([_zero_padding(dy, keep)])
            transposed = _transposed(kernel, 4)

            def backward(step: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor) -> tuple[Any, ...]:
                t = length - 1 - step
                i, f, g, o, tanh_c, before = (values.read(t) for values in saved[2:])
                dh = dh + incoming.read(t)
                dc = dc + _d_tanh(tanh_c, dh * o)
                if keep is not None:
                    dc = tf.where((last == t)[:, tf.newaxis], dc + dend, dc)
                gates = [
                    _d_sigmoid(i, dc * g),
                    _d_sigmoid(f, dc * before),
                    _d_tanh(g, dc * i),
                    _d_sigmoid(o, dh * tanh_c),
                ]
                dh = _dropped(_through(gates, transposed), drop)
                return dh, dc * f, *((t, gate) for gate in gates)

            start = [tf.zeros_like(state), dend if keep is None else tf.zeros_like(carry)]
            (dstate, dcarry), gates = _loop(length, backward, start, 4, like=kernels[0])
            gates = [gate.stack() for gate in gates]
            dkernel = _kernel_gradient(y, state, drop, gates)
            return *gates, dstate, dcarry, dkernel

        return (y, end), gradient

    return _apply(run, training, *x, state, carry, kernel)
