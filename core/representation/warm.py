"""Training that goes on from an earlier model, so that a refit stays close to it.

A refit scales the features anew, so the same sales have other numbers. The weights that
training starts from are therefore expressed in the new units first (`in_new_units`):
the first layer takes in the old scaling of what it is given, the last one takes it out
again. Before its first step the new encoder then places a shop with given features
where the old one placed it (but for what the old bounds clipped), and what moves
afterwards is learnt from new data.

Measured on the built-in generator (2,000 shops, look-back of 24 months, refitted a
month later, three populations each), adjusted Rand index over all rows, the unassigned
as one more group, with the old model's labels / with the planted archetypes:

=================================  =============  =============
refit                              easy           medium
=================================  =============  =============
anew                               0.939 / 0.933  0.742 / 0.768
anew, near (`core.clustering`)     0.941 / 0.934  0.754 / 0.765
warm, full steps                   0.937 / 0.954  0.744 / 0.793
warm, 0.3 of the steps             0.949 / 0.946  0.781 / 0.777
warm, 0.3, near: what a refit does 0.956 / 0.939  0.815 / 0.775
warm, 0.1 of the steps             0.955 / 0.935  0.796 / 0.766
warm, 0.1, a third of the epochs   0.959 / 0.937  0.829 / 0.762
=================================  =============  =============

So a warm start costs nothing where shops are the same ones. What it costs shows with
shops of a kind that the old model has never seen (one archetype of eight left out of
the first training, eight cases): their own cluster reaches a mean Jaccard of 0.79
anew and at full steps, 0.72 at 0.3 and 0.67 at 0.1 of them. Hence 0.3. A term that
holds latent vectors to the old ones (weight 3, at 0.3 of the steps, near, medium) gave
0.831 / 0.761 at a third more time: agreement bought with quality, so there is none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.features.scaling import FeatureScaler
from core.representation.autoencoder import Autoencoder
from core.representation.forward import Dense, FloatArray, Layer, Network


def in_new_units(
    trained: Autoencoder, old: FeatureScaler, new: FeatureScaler
) -> Autoencoder:
    """Return the same autoencoder for features under another scaling.

    With ``z`` the features under the new scaling, those under the old one are
    ``z * ratio + shift``; a linear map, which the first and the last layer absorb. A
    column that was constant under either scaling has no old unit: its weights stay.

    Parameters
    ----------
    trained : Autoencoder
        Fitted, or restored from its state, on features under `old`.
    old, new : FeatureScaler
        Fitted, both with the columns of `trained`.

    Returns
    -------
    Autoencoder
        `transform` of features scaled by `new` gives what `trained` gives of the same
        features scaled by `old`, to about 1e-6, as far as neither clips them.
    """
    ratio, shift = _map_between(old, new)
    moved = Autoencoder.from_state(*trained.get_state())
    moved.encoder_ = _after(moved.encoder_, ratio, shift)
    moved.decoder_ = _before(moved.decoder_, ratio, shift)
    return moved


def _map_between(
    old: FeatureScaler, new: FeatureScaler
) -> tuple[FloatArray, FloatArray]:
    """Return ratio and shift from the new to the old scaled values of each column."""
    had_unit = old.lower_ < old.upper_
    has_both = had_unit & (new.lower_ < new.upper_)
    ratio = np.where(has_both, new.scale_ / old.scale_, 1.0)
    # Where the new centre lies, as the old scaler saw it: within its bounds.
    centre = np.clip(new.centre_, old.lower_, old.upper_)
    return ratio, np.where(had_unit, (centre - old.centre_) / old.scale_, 0.0)


def _after(network: Network, ratio: FloatArray, shift: FloatArray) -> Network:
    """Return the network of ``x * ratio + shift``, as a network of ``x``."""
    first, *others = network.layers
    assert isinstance(first, Dense)  # every network begins with one
    bias = first.bias + (shift[:, None] * first.kernel).sum(axis=0)
    changed = replace(first, kernel=ratio[:, None] * first.kernel, bias=bias + 0.0)
    return Network((changed, *others))


def _before(network: Network, ratio: FloatArray, shift: FloatArray) -> Network:
    """Return the network whose output ``y`` becomes ``(y - shift) / ratio``."""
    *others, last = network.layers
    assert isinstance(last, Dense)  # every decoder ends with one
    changed: Layer = replace(
        last, kernel=last.kernel / ratio, bias=(last.bias - shift) / ratio + 0.0
    )
    return Network((*others, changed))
