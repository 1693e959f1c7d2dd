"""From a trained Keras stack to the NumPy networks of `forward`, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.representation.architectures import LATENT
from core.representation.forward import Dense, FloatArray, Layer, LayerNorm, Network


def fold(model: Any) -> tuple[Network, Network]:
    """Return encoder and decoder with every BatchNorm folded into the next Dense.

    Batch normalisation at inference is ``x * scale + shift`` per column, so
    ``Dense(norm(x)) = x @ (scale[:, None] * kernel) + (shift @ kernel + bias)``.

    Parameters
    ----------
    model : keras.Sequential
        Of the layers that `architectures` allows.
    """
    parts: dict[bool, list[Layer]] = {True: [], False: []}
    is_encoder = True
    norm: tuple[FloatArray, FloatArray] | None = None
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            norm = _scale_and_shift(layer)
            continue
        if kind == "Dense":
            parts[is_encoder].append(_dense(layer, norm))
        elif kind == "LayerNormalization" and norm is None:
            gain, shift = (_weights(w) for w in (layer.gamma, layer.beta))
            parts[is_encoder].append(LayerNorm(gain, shift, float(layer.epsilon)))
        else:
            raise NotImplementedError(f"layer {layer.name!r} ({kind}) cannot be folded")
        norm = None
        if layer.name == LATENT:
            is_encoder = False
    return Network(tuple(parts[True])), Network(tuple(parts[False]))


def unfold(model: Any, encoder: Network, decoder: Network) -> None:
    """Give a freshly built Keras stack the weights of trained networks, in place.

    Parameters
    ----------
    model : keras.Sequential
        Of `Dense` layers with a bias only: a batch normalisation that was folded cannot
        be told from the kernel behind it any more.
    encoder, decoder : Network
        What `fold` returned for a stack of the same widths.
    """
    layers = (*encoder.layers, *decoder.layers)
    for target, layer in zip(model.layers, layers, strict=True):
        if not isinstance(layer, Dense) or type(target).__name__ != "Dense":
            raise NotImplementedError(f"layer {target.name!r} cannot be unfolded")
        target.set_weights([layer.kernel, layer.bias])


def _weights(variable: Any) -> FloatArray:
    return np.asarray(variable.numpy(), dtype=np.float64)


def _scale_and_shift(layer: Any) -> tuple[FloatArray, FloatArray]:
    """Return what a BatchNorm multiplies by and adds once it is trained."""
    scale = _weights(layer.gamma) / np.sqrt(
        _weights(layer.moving_variance) + layer.epsilon
    )
    return scale, _weights(layer.beta) - _weights(layer.moving_mean) * scale


def _dense(layer: Any, norm: tuple[FloatArray, FloatArray] | None) -> Dense:
    """Return a Dense layer with the normalisation before it folded in."""
    kernel = _weights(layer.kernel)
    bias = _weights(layer.bias) if layer.use_bias else np.zeros(kernel.shape[1])
    if norm is not None:
        scale, shift = norm
        # Summed along axis 0 in one order, so that the saved bits repeat.
        bias = bias + (shift[:, None] * kernel).sum(axis=0)
        kernel = scale[:, None] * kernel
    return Dense(kernel, bias + 0.0, str(layer.activation.__name__))
