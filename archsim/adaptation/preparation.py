"""A change of basis that leaves the software model as it is and suits the arrays.

Softmax attention does not notice a constant vector added to all keys, a constant added to all
values (it moves into the bias of the output projection), an orthogonal change of basis inside a
head, or a constant added to all scores of one query. The hardware notices all four:

* Pulses cannot be negative, so q is sent as ``a q + b`` with b in mid-range, and b times the sum of
  a key's features lands on its score. The new basis puts the direction in which keys vary least
  there.
* Softmax subtracts from every query's scores the logarithm of their sum of exponentials; the
  HardSigmoid has one fixed threshold. That logarithm is mostly a linear function of what the layer
  is given, so a linear prediction of it is folded into q, along a second quiet direction in which
  every key is made one constant.
* One gain serves all features of a head, so features should be of one size: what is left of the
  basis is random, which makes them so.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from archsim.models.gpt2 import Array as Floats
from archsim.models.gpt2 import Block, Gpt2, Gpt2Weights, Projection

Array = NDArray[np.float64]

RIDGE = 1e-1
"""Penalty on the predictor's weights, relative to the mean power of its inputs."""


def prepare(model: Gpt2, ids: NDArray[np.int64], seed: int = 0) -> Gpt2:
    """The same software model, nearly to rounding, in a basis for the arrays.

    `ids`: calibration token ids (windows, tokens). What changes is that keys lose their variation
    along one direction, the second quietest of the head.
    """
    seen: list[tuple[Array, Array, Array]] = []

    def keep(layer: int, q: Floats, k: Floats, v: Floats) -> None:
        windows = len(ids)
        parts = (x.reshape(windows, -1, *x.shape[1:]).astype(np.float64) for x in (q, k, v))
        seen.append(tuple(parts))  # type: ignore[arg-type]

    model.forward(ids, record=keep)
    rng = np.random.default_rng(seed)
    blocks = [
        _prepare_block(block, layer, model, qkv, rng)
        for layer, (block, qkv) in enumerate(zip(model.weights.blocks, seen, strict=True))
    ]
    w = model.weights
    return Gpt2(model.config, Gpt2Weights(w.wte, w.wpe, blocks, w.ln_f, w.lm_head))


def _prepare_block(
    block: Block,
    layer: int,
    model: Gpt2,
    qkv: tuple[Array, Array, Array],  # each (windows, heads, tokens, head_dim)
    rng: np.random.Generator,
) -> Block:
    config = model.config
    width, embedding = config.head_dim, config.n_embd
    weight, bias, out, out_bias = (
        x.astype(np.float64)
        for x in (
            block.c_attn.weight,
            block.c_attn.bias,
            block.attn_c_proj.weight,
            block.attn_c_proj.bias,
        )
    )
    # the layer's input, from its projections: they are three times as many
    joined = np.concatenate([x.swapaxes(1, 2).reshape(-1, embedding) for x in qkv], axis=1)
    inputs = (joined - bias) @ np.linalg.pinv(weight)  # (windows x tokens, E)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    scale = model.score_scale(layer)
    weight, bias, out, out_bias = weight.copy(), bias.copy(), out.copy(), out_bias.copy()
    for head in range(config.n_head):
        q, k, v = (
            slice(part * embedding + head * width, part * embedding + (head + 1) * width)
            for part in range(3)
        )
        rows = slice(head * width, (head + 1) * width)
        queries, keys, values = (x[:, head] for x in qkv)  # (windows, tokens, head_dim)
        bias[k] -= keys.mean(axis=(0, 1))
        keys = keys - keys.mean(axis=(0, 1))
        mean_value = values.mean(axis=(0, 1))
        bias[v] -= mean_value
        out_bias += mean_value @ out[rows]

        flat = keys.reshape(-1, width)
        directions = np.linalg.eigh(flat.T @ flat)[1]  # quietest first
        silent, threshold = directions[:, 0], directions[:, 1]
        level = log_sum_exp(queries, keys, scale).ravel()
        predictor = ridge(inputs, level - level.mean())
        # `constant` times q's new part is the threshold: shared so that neither needs much range
        spread = float((inputs @ predictor).std()) / scale
        own = [float(np.sqrt((x**2).sum(axis=-1).mean())) for x in (queries, keys)]
        constant = math.sqrt(max(spread, 1e-6) * own[1] / max(own[0], 1e-6))
        weight[:, k] -= np.outer(weight[:, k] @ threshold, threshold)
        bias[k] += (constant - bias[k] @ threshold) * threshold
        folded = predictor / (scale * constant)
        weight[:, q] -= np.outer(folded[:-1], threshold)
        bias[q] -= folded[-1] * threshold

        turn = random_rotation(np.full(width, width**-0.5), silent, rng)
        for part in (q, k):
            weight[:, part], bias[part] = weight[:, part] @ turn, bias[part] @ turn
        turn = random_rotation(np.eye(width)[0], np.eye(width)[0], rng)
        weight[:, v], bias[v] = weight[:, v] @ turn, bias[v] @ turn
        out[rows] = turn.T @ out[rows]
    dtype = block.c_attn.weight.dtype
    return replace(
        block,
        c_attn=Projection(weight.astype(dtype), bias.astype(dtype)),
        attn_c_proj=Projection(out.astype(dtype), out_bias.astype(dtype)),
    )


def log_sum_exp(queries: Array, keys: Array, scale: float) -> Array:
    """What softmax subtracts from each query's scores, (windows, tokens).

    queries, keys: (windows, tokens, head_dim) of one head; causal.
    """
    scores = queries @ keys.swapaxes(1, 2) * scale
    scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    most = scores.max(axis=-1)
    result: Array = np.log(np.exp(scores - most[..., None]).sum(axis=-1)) + most
    return result


def ridge(inputs: Array, wanted: Array) -> Array:
    """Least squares with small weights: low-precision training has to compute with them."""
    gram = inputs.T @ inputs
    penalty = RIDGE * float(np.trace(gram)) / len(gram)
    gram[np.diag_indices_from(gram)] += penalty
    return np.asarray(np.linalg.solve(gram, inputs.T @ wanted), np.float64)


def random_rotation(source: Array, target: Array, rng: np.random.Generator) -> Array:
    """A random orthogonal R with ``R source = target`` (unit vectors)."""
    width = len(source)

    def basis(first: Array) -> Array:
        drawn = np.column_stack([first, rng.standard_normal((width, width - 1))])
        q, r = np.linalg.qr(drawn)
        result: Array = q * np.sign(np.diag(r))
        return result

    rotation: Array = basis(target) @ basis(source).T
    return rotation
