"""A trained network in NumPy, with the same bits for a row wherever it stands.

Inference must not wait for TensorFlow (5 s to import), and a shop's latent vector must
not depend on which other shops are in the call. Matrix products of a BLAS break the
second promise: they round after each addition, in an order that depends on the shape,
the thread count, the processor and the library (measured: 1,000 of 1,000 rows differ in
their last bits between a batch and single calls). Padding to blocks of one shape hides
it on one machine only.

`Dense` therefore rounds *before* multiplying instead: each row of the input and each
column of the kernel to integers of about 23 bits times a power of two. With ``b`` bits
each and ``k`` inputs every product and partial sum is an integer of at most
``2b + log2(k) <= 53`` bits, which float64 holds **exactly**. Exact sums have no order,
so any BLAS, block, thread count and machine gives the same bits, by arithmetic rather
than by luck. (The idea is Ozaki's error-free splitting, with one slice.) The
remaining operations (ReLU, LayerNorm over explicitly ordered columns, square root) are
single IEEE operations.

The rounding, 2**-23 of a row's largest value or finer, is that of float32, in which the
network was trained; all else is float64, so Keras's own float32 answers agree to 1e-5.
1,000,000 rows x 25 features take 1.1 s of one core (25-64-64-5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from core.artifacts.arrays import Arrays, Meta, State
from core.errors import ArtifactError, listed
from core.models.autoencoder.architectures import LATENT

FloatArray = npt.NDArray[np.float64]

BLOCK_ROWS = 256
"""Rows at a time: 64 float64 columns of them are 128 kB, which stays in cache."""
LARGEST_SINGLE_THREADED = 2**18
"""Multiplications up to which OpenBLAS keeps a product on one thread."""
SMALLEST_SLICE = 16
"""Rows of a slice where the kernel is large: no slower than one product."""
SIGNIFICAND_BITS = 53
SMALLEST_EXPONENT = -900
"""Rows below 2**-900 are taken as 0: their scale would leave the range of floats."""


@dataclass(frozen=True, eq=False)
class Dense:
    """``activation(x @ kernel + bias)``, summed exactly.

    Parameters
    ----------
    kernel : ndarray of shape (n_inputs, n_outputs), float64
    bias : ndarray of shape (n_outputs,), float64
        Without negative zeros: adding it then erases the sign of an exact 0, the one
        thing in which orders of summation still differ.
    activation : {'linear', 'relu'}
    """

    kernel: FloatArray
    bias: FloatArray
    activation: str

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return the layer's output for rows of shape (n_rows, n_inputs)."""
        grid, bits, column_unit = self._grid
        _, exponent = np.frexp(np.abs(rows).max(axis=1, keepdims=True))
        np.maximum(exponent, SMALLEST_EXPONENT, out=exponent)
        integers = rows * np.ldexp(1.0, bits - exponent)
        np.rint(integers, out=integers)
        output = _product(integers, grid)
        output *= np.ldexp(1.0, exponent - bits)
        output *= column_unit
        output += self.bias
        if self.activation == "relu":
            np.maximum(output, 0.0, out=output)
        return output

    @cached_property
    def _grid(self) -> tuple[FloatArray, int, FloatArray]:
        """Return the kernel as integers, the bits of an input, and each one's unit."""
        available = SIGNIFICAND_BITS - math.ceil(math.log2(len(self.kernel)))
        kernel_bits, input_bits = available // 2, available - available // 2
        _, exponent = np.frexp(np.abs(self.kernel).max(axis=0))
        np.maximum(exponent, SMALLEST_EXPONENT, out=exponent)
        grid = np.rint(self.kernel * np.ldexp(1.0, kernel_bits - exponent))
        return grid, input_bits, np.ldexp(1.0, exponent - kernel_bits)


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """``(x - mean) / sqrt(variance + epsilon) * gain + shift``, over each row.

    Parameters
    ----------
    gain, shift : ndarray of shape (n_columns,), float64
    epsilon : float
    """

    gain: FloatArray
    shift: FloatArray
    epsilon: float

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return the normalised rows, of the same shape."""
        n_columns = rows.shape[1]
        centred: FloatArray = rows - (sum_columns(rows) / n_columns)[:, None]
        variance = sum_columns(centred * centred) / n_columns
        centred /= np.sqrt(variance + self.epsilon)[:, None]
        centred *= self.gain
        centred += self.shift
        return centred


Layer = Dense | LayerNorm


@dataclass(frozen=True, eq=False)
class Network:
    """Layers applied one after the other.

    Parameters
    ----------
    layers : tuple of Dense or LayerNorm
        Begins with a `Dense`.
    """

    layers: tuple[Layer, ...]

    @property
    def n_inputs(self) -> int:
        """Columns that the network takes."""
        first = self.layers[0]
        return len(first.kernel if isinstance(first, Dense) else first.gain)

    @property
    def n_outputs(self) -> int:
        """Columns that the network returns."""
        last = self.layers[-1]
        return len(last.bias if isinstance(last, Dense) else last.gain)

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return the output for rows of shape (n_rows, n_inputs), block by block."""
        output = np.empty((len(rows), self.n_outputs))
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            for layer in self.layers:
                block = layer(block)
            output[start : start + BLOCK_ROWS] = block
        return output

    def get_state(
        self, prefix: str
    ) -> tuple[dict[str, FloatArray], list[dict[str, Any]]]:
        """Return the weights by name (``{prefix}_0_kernel``), and the layers' kinds."""
        arrays: dict[str, FloatArray] = {}
        kinds: list[dict[str, Any]] = []
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Dense):
                kinds.append({"kind": "dense", "activation": layer.activation})
                weights = {"kernel": layer.kernel, "bias": layer.bias}
            else:
                kinds.append({"kind": "layer_norm", "epsilon": layer.epsilon})
                weights = {"gain": layer.gain, "shift": layer.shift}
            arrays |= {f"{prefix}_{i}_{name}": w for name, w in weights.items()}
        return arrays, kinds

    @classmethod
    def from_state(
        cls,
        prefix: str,
        arrays: Mapping[str, npt.NDArray[Any]],
        kinds: Iterable[Mapping[str, Any]],
    ) -> Self:
        """Return the network that `get_state` described.

        Raises
        ------
        ArtifactError
            If an array is missing, or the shapes do not follow from one another.
        """
        layers: list[Layer] = []
        try:
            for i, kind in enumerate(kinds):
                layers.append(_layer(f"{prefix}_{i}", kind, arrays))
        except KeyError as error:
            raise ArtifactError(
                f"the autoencoder's state lacks {error}. Train the model again."
            ) from None
        network = cls(tuple(layers))
        network._check_shapes(prefix)
        return network

    def _check_shapes(self, prefix: str) -> None:
        if not self.layers or not isinstance(self.layers[0], Dense):
            raise ArtifactError(
                f"the autoencoder's `{prefix}` does not begin with a dense layer. "
                "Train the model again."
            )
        width = self.n_inputs
        for layer in self.layers:
            if isinstance(layer, Dense):
                n_outputs = len(layer.bias)
                shapes = layer.kernel.shape, layer.bias.shape
                is_sound = shapes == ((width, n_outputs), (n_outputs,))
                width = n_outputs
            else:
                is_sound = layer.gain.shape == layer.shift.shape == (width,)
            if not is_sound:
                raise ArtifactError(
                    f"the arrays of the autoencoder's `{prefix}` do not fit one "
                    "another. Train the model again."
                )


@dataclass(frozen=True, eq=False)
class Codec:
    """Encoder and decoder of a trained autoencoder: what is saved, without TensorFlow.

    Attributes
    ----------
    architecture : str
        Of `core.models.autoencoder.architectures`.
    encoder, decoder : Network
    """

    architecture: str
    encoder: Network
    decoder: Network

    def transform(self, scaled: FloatArray) -> FloatArray:
        """Return the latent vectors, shape (n_rows, latent_size), of scaled features.

        A row's bits do not depend on the other rows.
        """
        return self.encoder(scaled)

    def reconstruction_error(self, scaled: FloatArray) -> FloatArray:
        """Return each row's mean squared error, in squared scaled units.

        A shop with a large error sells unlike anything the network has learnt; its
        latent vector says little about it.

        Parameters
        ----------
        scaled : ndarray of shape (n_rows, n_features), float64
            Scaled features, finite.
        """
        error = self.decoder(self.encoder(scaled))
        error -= scaled
        error *= error
        mean: FloatArray = sum_columns(error) / scaled.shape[1]
        return mean

    def get_state(self) -> State:
        """Return the weights as named arrays, and the rest as JSON-able values."""
        encoder, encoder_layers = self.encoder.get_state("encoder")
        decoder, decoder_layers = self.decoder.get_state("decoder")
        layers = {"encoder": encoder_layers, "decoder": decoder_layers}
        return encoder | decoder, {"architecture": self.architecture, **layers}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return the codec that `get_state` was asked of.

        Raises
        ------
        ArtifactError
            If a part of the state is missing or does not fit the others.
        """
        # Earlier versions saved every option of the training.
        known = {**meta.get("options", {}), **meta}
        needed = ("architecture", "encoder", "decoder")
        if missing := [key for key in needed if key not in known]:
            raise ArtifactError(
                f"the autoencoder's state lacks {listed(missing)}. Train it again."
            )
        encoder = Network.from_state("encoder", arrays, meta["encoder"])
        decoder = Network.from_state("decoder", arrays, meta["decoder"])
        if encoder.n_outputs != decoder.n_inputs:
            raise ArtifactError(
                f"the autoencoder's encoder returns {encoder.n_outputs} columns, its "
                f"decoder takes {decoder.n_inputs}. Train it again."
            )
        return cls(str(known["architecture"]), encoder, decoder)


def _layer(
    name: str, kind: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> Layer:
    """Return one layer from its saved kind and weights."""

    def weights(part: str) -> FloatArray:
        return np.asarray(arrays[f"{name}_{part}"], dtype=np.float64)

    if kind["kind"] == "dense":
        return Dense(weights("kernel"), weights("bias"), str(kind["activation"]))
    if kind["kind"] == "layer_norm":
        return LayerNorm(weights("gain"), weights("shift"), float(kind["epsilon"]))
    raise ArtifactError(
        f"the autoencoder's layer `{name}` is of the unknown kind {kind['kind']!r}; "
        "expected `dense` or `layer_norm`. Read it with the version that wrote it."
    )


def _product(rows: FloatArray, kernel: FloatArray) -> FloatArray:
    """Return ``rows @ kernel`` in slices too small for a BLAS to use several threads.

    Its threads wait for one another longer than they work on matrices this small.
    """
    size = max(SMALLEST_SLICE, LARGEST_SINGLE_THREADED // kernel.size)
    n_sliced = len(rows) // size * size
    output = np.empty((len(rows), kernel.shape[1]))
    slices = output[:n_sliced].reshape(-1, size, kernel.shape[1])
    np.matmul(rows[:n_sliced].reshape(-1, size, len(kernel)), kernel, out=slices)
    np.matmul(rows[n_sliced:], kernel, out=output[n_sliced:])
    return output


def sum_columns(rows: FloatArray) -> FloatArray:
    """Return each row's sum, added from left to right whatever the memory layout.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns), float64

    Returns
    -------
    ndarray of shape (n_rows,), float64
    """
    total = rows[:, 0].copy()
    for column in rows.T[1:]:
        total += column
    return total


def fold(model: Any, architecture: str) -> Codec:
    """Return encoder and decoder with every BatchNorm folded into the next Dense.

    Batch normalisation at inference is ``x * scale + shift`` per column, so
    ``Dense(norm(x)) = x @ (scale[:, None] * kernel) + (shift @ kernel + bias)``.

    Parameters
    ----------
    model : keras.Sequential
        Of the layers that `architectures` allows.
    architecture : str
        Which of them it is.
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
    encoder, decoder = (Network(tuple(parts[is_first])) for is_first in (True, False))
    return Codec(architecture, encoder, decoder)


def unfold(model: Any, trained: Codec) -> None:
    """Give a freshly built Keras stack the weights of trained networks, in place.

    Parameters
    ----------
    model : keras.Sequential
        Of `Dense` layers with a bias only: a batch normalisation that was folded cannot
        be told from the kernel behind it any more.
    trained : Codec
        What `fold` returned for a stack of the same widths.
    """
    layers = (*trained.encoder.layers, *trained.decoder.layers)
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
