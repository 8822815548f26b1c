"""Recurrences over whole sequences on a CPU: a forward and a backward loop, derived by hand.

The loops hold only what depends on the step before. Inputs arrive already projected, x K + b for
all steps in one matrix product. The gradient of the recurrent weights is one matrix product over
all steps, after the backward loop, where automatic differentiation would add it up step by step.
Every gate has its own matrix product: to split one product's result, or to join gradients for
one, costs more than the smaller products do.

How to read a function: `run` computes the outputs and returns them with `gradient`, which
tf.custom_gradient calls in the backward pass. `forward` is one step; what it saves for the
backward pass it returns as pairs (step, matrix). `backward` is one step from the end: it gets the
gradient of the state that leaves the step, adds that of the step's output, and returns the
gradient of the state that entered.

All sequences are time-major, (T, B, ·), and padded at the end. The loops run through the padding;
outputs there are set to 0 and no gradient comes from there, so real positions never see it.
Recurrent matrices U are as in Keras: gates z, r, c (gru) and i, f, g, o (lstm) side by side. Each
function is one algorithm: the backward loop reads what the forward loop saved.

`keep` (T, B, 1) is False on padding, or None if there is none. `drop` (B, W) multiplies the state
where it meets the recurrent matrix (Gal & Ghahramani 2016, arXiv:1512.05287), or is None.
`training` False saves nothing but the outputs, so that memory stays small and an exported graph
has no gradient of its own; TensorFlow can still derive one, slowly.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import tensorflow as tf

from models.padding import gather_last

Outputs = TypeVar("Outputs", tf.Tensor, tuple[tf.Tensor, tf.Tensor])

StepResult: TypeAlias = tuple[tf.Tensor | tuple[tf.Tensor, tf.Tensor], ...]
"""A step's new variables, and pairs (step, matrix) of what is saved."""

WithGradient: TypeAlias = tuple[Outputs, Callable[..., tuple[tf.Tensor, ...]]]
"""Outputs, and a function from their gradients to those of the tensors they come from."""

# Each activation, and its derivative times dy, computed from the activation's value y.
_Derivative: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_ACTIVATIONS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], _Derivative]] = {
    "tanh": (tf.tanh, lambda y, dy: tf.raw_ops.TanhGrad(y=y, dy=dy)),
    "sigmoid": (tf.sigmoid, lambda y, dy: tf.raw_ops.SigmoidGrad(y=y, dy=dy)),
    "relu": (tf.nn.relu, lambda y, dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)),
}
_d_tanh = _ACTIVATIONS["tanh"][1]
_d_sigmoid = _ACTIVATIONS["sigmoid"][1]


def _unstack(sequences: list[tf.Tensor]) -> list[tf.TensorArray]:
    """Each sequence (T, B, W) as an array of its steps; the memory is shared, not copied."""
    return [
        tf.TensorArray(x.dtype, tf.shape(x)[0], clear_after_read=False).unstack(x)
        for x in sequences
    ]


def _loop(
    length: tf.Tensor,
    body: Callable[..., StepResult],
    variables: list[tf.Tensor],
    saved: int,
    like: tf.Tensor,
) -> tuple[list[tf.Tensor], list[tf.TensorArray]]:
    """Runs body(step) for steps 0 .. length - 1.

    body(step, *variables) -> variables, then `saved` pairs (index, matrix), each of which goes
    into an array of its own. like (·, W) gives the shape of a matrix. Returns the last variables
    and the arrays.
    """
    arrays = [
        tf.TensorArray(
            like.dtype,
            length,
            element_shape=[variables[0].shape[0], like.shape[-1]],
            clear_after_read=False,
        )
        for _ in range(saved)
    ]
    count = len(variables)

    def run_step(
        step: tf.Tensor, *rest: tf.Tensor | tf.TensorArray
    ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
        results = body(step, *rest[:count])
        pairs = zip(rest[count:], results[count:], strict=True)
        return (step + 1, *results[:count], *(array.write(*pair) for array, pair in pairs))

    start = (tf.constant(0), *variables, *arrays)
    _, *results = tf.while_loop(lambda step, *_: step < length, run_step, start)
    return results[:count], results[count:]


def _zero_padding(values: tf.Tensor, keep: tf.Tensor | None) -> tf.Tensor:
    return values if keep is None else tf.where(keep, values, tf.zeros([], values.dtype))


def _drop(states: tf.Tensor, drop: tf.Tensor | None) -> tf.Tensor:
    return states if drop is None else states * drop


def _kernel_gradient(
    states: tf.Tensor, initial: tf.Tensor, drop: tf.Tensor | None, gates: list[tf.Tensor]
) -> tf.Tensor:
    """Gradient of U (W, nW) from those of n gates, each (T, B, W).

    U is multiplied by the state before each step: initial (B, W), then states (T, B, W), each of
    which is after its step. To join the two in one tensor would cost as much as a product of it.
    """
    width = states.shape[-1]
    first = _drop(initial, drop)
    later = tf.reshape(_drop(states[:-1], drop), [-1, width])

    def product(gate: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(gate[1:], [-1, width])
        return tf.matmul(later, rows, transpose_a=True) + tf.matmul(
            first, gate[0], transpose_a=True
        )

    return tf.concat([product(gate) for gate in gates], -1)


def _transpose_gates(kernel: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Uᵀ of each of `count` gates. Loops read it faster than they multiply by a transposed U."""
    return tf.split(tf.transpose(kernel), count)


def _state_gradient(gates: list[tf.Tensor], transposed: list[tf.Tensor]) -> tf.Tensor:
    """Gradient of the state that entered a step, by its gates: the sum of dgate Uᵀ, (B, W)."""
    pairs = zip(gates, transposed, strict=True)
    return tf.add_n([tf.matmul(gate, kernel) for gate, kernel in pairs])


def _apply(
    run: Callable[..., WithGradient[Outputs]], training: bool, *tensors: tf.Tensor
) -> Outputs:
    """The outputs of run(*tensors), with its gradient in training."""
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

    def run(x: tf.Tensor, state: tf.Tensor, kernel: tf.Tensor) -> WithGradient[tf.Tensor]:
        (inputs,) = _unstack([x])

        def forward(t: tf.Tensor, h: tf.Tensor) -> StepResult:
            h = apply(inputs.read(t) + tf.matmul(_drop(h, drop), kernel))
            return h, (t, h)

        _, (outputs,) = _loop(length, forward, [state], 1, like=kernel)
        y = _zero_padding(outputs.stack(), keep)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,) = _unstack([_zero_padding(dy, keep)])
            transposed = _transpose_gates(kernel, 1)

            def backward(step: tf.Tensor, dh: tf.Tensor) -> StepResult:
                t = length - 1 - step
                gate = derive(outputs.read(t), dh + incoming.read(t))
                return _drop(_state_gradient([gate], transposed), drop), (t, gate)

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
    length, saved_count = tf.shape(x[0])[0], 6 if training else 1

    def run(
        x_z: tf.Tensor,
        x_r: tf.Tensor,
        x_c: tf.Tensor,
        state: tf.Tensor,
        kernel: tf.Tensor,
        bias: tf.Tensor,
    ) -> WithGradient[tf.Tensor]:
        in_z, in_r, in_c = _unstack([x_z, x_r, x_c])
        kernels = tf.split(kernel, 3, axis=-1)

        def forward(t: tf.Tensor, h: tf.Tensor) -> StepResult:
            u_z, u_r, u_q = (tf.matmul(_drop(h, drop), u) for u in kernels)
            z, r = tf.sigmoid(in_z.read(t) + u_z), tf.sigmoid(in_r.read(t) + u_r)
            q = tf.nn.bias_add(u_q, bias)
            c = tf.tanh(in_c.read(t) + r * q)
            before, h = h, c + z * (h - c)
            return h, *((t, value) for value in (h, z, r, q, c, before)[:saved_count])

        _, saved = _loop(length, forward, [state], saved_count, like=kernels[0])
        y = _zero_padding(saved[0].stack(), keep)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,) = _unstack([_zero_padding(dy, keep)])
            transposed = _transpose_gates(kernel, 3)

            def backward(step: tf.Tensor, dh: tf.Tensor) -> StepResult:
                t = length - 1 - step
                z, r, q, c, before = (values.read(t) for values in saved[1:])
                dh = dh + incoming.read(t)
                direct = dh * z  # past the gates: h' = z h + ...
                dc = _d_tanh(c, dh - direct)
                dz = _d_sigmoid(z, dh * (before - c))
                dr, dq = _d_sigmoid(r, dc * q), dc * r
                dh = _drop(_state_gradient([dz, dr, dq], transposed), drop) + direct
                return dh, *((t, gate) for gate in (dz, dr, dq, dc))

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
    length, saved_count = tf.shape(x[0])[0], 8 if training else 2

    def run(
        x_i: tf.Tensor,
        x_f: tf.Tensor,
        x_g: tf.Tensor,
        x_o: tf.Tensor,
        state: tf.Tensor,
        carry: tf.Tensor,
        kernel: tf.Tensor,
    ) -> WithGradient[tuple[tf.Tensor, tf.Tensor]]:
        inputs = _unstack([x_i, x_f, x_g, x_o])
        kernels = tf.split(kernel, 4, axis=-1)

        def forward(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> StepResult:
            h, before = _drop(h, drop), c
            i, f, g, o = (a.read(t) + tf.matmul(h, u) for a, u in zip(inputs, kernels, strict=True))
            i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
            c = f * c + i * g
            tanh_c = tf.tanh(c)
            h = o * tanh_c
            to_save = (h, c, i, f, g, o, tanh_c, before)[:saved_count]
            return h, c, *((t, value) for value in to_save)

        (_, end), saved = _loop(length, forward, [state, carry], saved_count, like=kernels[0])
        y = _zero_padding(saved[0].stack(), keep)
        if keep is not None:  # otherwise all sequences end at the last step
            end = gather_last(saved[1].stack(), last)

        def gradient(dy: tf.Tensor, dend: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (incoming,) = _unstack([_zero_padding(dy, keep)])
            transposed = _transpose_gates(kernel, 4)

            def backward(step: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor) -> StepResult:
                t = length - 1 - step
                i, f, g, o, tanh_c, before = (values.read(t) for values in saved[2:])
                dh = dh + incoming.read(t)
                dc = dc + _d_tanh(tanh_c, dh * o)
                if keep is not None:  # the returned carry is that of the last real step
                    dc = tf.where((last == t)[:, tf.newaxis], dc + dend, dc)
                gates = [
                    _d_sigmoid(i, dc * g),
                    _d_sigmoid(f, dc * before),
                    _d_tanh(g, dc * i),
                    _d_sigmoid(o, dh * tanh_c),
                ]
                dh = _drop(_state_gradient(gates, transposed), drop)
                return dh, dc * f, *((t, gate) for gate in gates)

            start = [tf.zeros_like(state), dend if keep is None else tf.zeros_like(carry)]
            (dstate, dcarry), gates = _loop(length, backward, start, 4, like=kernels[0])
            gates = [gate.stack() for gate in gates]
            dkernel = _kernel_gradient(y, state, drop, gates)
            return *gates, dstate, dcarry, dkernel

        return (y, end), gradient

    return _apply(run, training, *x, state, carry, kernel)
