import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.utils.estimator_checks import parametrize_with_checks

from core.errors import ArtifactError, ConfigError, ModelError
from core.models.autoencoder.architectures import ARCHITECTURES, find_architecture
from core.models.autoencoder.estimator import Autoencoder
from core.models.autoencoder.network import Codec, Dense, LayerNorm, Network
from core.models.autoencoder.training import load_keras

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = sorted(ARCHITECTURES)


def planted_shops(n_shops: int = 600, n_features: int = 12, seed: int = 0):
    """Scaled features of shops on a noisy 3-dimensional surface."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_shops, 3))
    features = np.tanh(hidden @ rng.normal(size=(3, n_features)))
    features += 0.1 * rng.normal(size=features.shape)
    return (features - features.mean(axis=0)) / features.std(axis=0)


@pytest.fixture(scope="module")
def of_every_architecture():
    return [Autoencoder(name, epochs=2).fit(planted_shops()) for name in NAMES]


@pytest.fixture(params=range(len(NAMES)), ids=NAMES)
def fitted(request, of_every_architecture):
    return of_every_architecture[request.param]


# --- the estimator contract --------------------------------------------------------


@pytest.fixture
def short_training(monkeypatch):
    """Spare compiling, and all steps but one; the checks fit some 45 times."""
    tf, _ = load_keras()
    monkeypatch.setattr("core.models.autoencoder.objectives.STEPS_PER_EPOCH", (1, 1))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("short_training")
@pytest.mark.filterwarnings("ignore:`latent_size` is:UserWarning")
@parametrize_with_checks([Autoencoder(epochs=1, latent_size=1, hidden_size=4)])
def test_autoencoder_keeps_the_estimator_contract(estimator, check):
    check(estimator)


def test_published_settings_hold_unless_overridden():
    reference = find_architecture("reference")
    own = Autoencoder("reference")._settings(reference, 60_000)
    assert (own.epochs, own.batch_size, own.validation_share) == (30, 300, 0.35)
    assert (own.patience, own.corruption, own.rows_per_epoch) == (5, 0.0, None)
    mine = Autoencoder("reference", epochs=3, corruption=0.2)._settings(reference, 9)
    assert (mine.epochs, mine.batch_size, mine.corruption) == (3, 300, 0.2)


def test_reference_is_the_published_stack():
    model = ARCHITECTURES["reference"].build(29, 5, 14, 42)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        "BatchNormalization",
        "Dense",
        "BatchNormalization",
        "Dense",
        "LayerNormalization",
        "Dense",
        "Dense",
    ]
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    assert [layer.units for layer in dense] == [14, 5, 14, 29]
    assert [layer.use_bias for layer in dense] == [False, False, True, True]
    assert [layer.activation.__name__ for layer in dense] == [
        "relu",
        "linear",
        "relu",
        "linear",
    ]
    penalties = [layer.kernel_regularizer for layer in dense]
    assert [float(p.l2) for p in penalties[:2]] == pytest.approx([1e-4, 1e-4])
    assert penalties[2:] == [None, None]


# --- training ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_any_order_of_the_shops_gives_the_same_bytes(name):
    shops = planted_shops(seed=1)
    order = np.random.default_rng(2).permutation(len(shops))
    first = Autoencoder(name, epochs=3).fit(shops)
    second = Autoencoder(name, epochs=3).fit(shops[order])
    assert first.history_ == second.history_
    assert first.transform(shops).tobytes() == second.transform(shops).tobytes()


FIT_AND_HASH = """
import hashlib, sys
import numpy as np
from core.models.autoencoder.architectures import ARCHITECTURES
from core.models.autoencoder.estimator import Autoencoder
from core.models.autoencoder.training import load_keras
from core.errors import ModelError
from core.models.umap import fit_umap
shops = np.load(sys.argv[1])
sys.modules["umap"] = None  # umap-learn would import TensorFlow aloud
try:
    fit_umap(shops, 2, seed=0)
except ModelError:
    assert "tensorflow" in sys.modules
else:
    raise AssertionError("UMAP was imported")
load_keras()[0].config.experimental.enable_op_determinism()
for name in sorted(ARCHITECTURES):
    latent = Autoencoder(name, epochs=2).fit(shops).transform(shops)
    print(hashlib.sha256(latent.tobytes()).hexdigest())
for size in range(4, 7):  # TensorFlow warns of what is compiled for the fifth time
    Autoencoder("denoising", epochs=1, hidden_size=size).fit(shops[:50])
"""


def run_python(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=inherited | env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )


def test_another_process_gives_the_same_bytes_and_a_quiet_terminal(
    of_every_architecture, tmp_path
):
    """And one in which the switch for determinism is on, which is off here."""
    shops = planted_shops()
    np.save(tmp_path / "shops.npy", shops)
    expected = [
        hashlib.sha256(fitted.transform(shops).tobytes()).hexdigest()
        for fitted in of_every_architecture
    ]
    result = run_python(FIT_AND_HASH, str(tmp_path / "shops.npy"), PYTHONHASHSEED="1")
    assert result.stdout.split() == expected
    assert result.stderr == ""


@pytest.mark.parametrize("name", ["denoising", "neighbours"])
def test_what_another_fit_was_or_left_undone_changes_no_byte(name):
    shops = planted_shops(60, seed=4)

    def stop(epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    def latent(**changes):
        fitted = Autoencoder(name, epochs=3, **changes).fit(shops)
        return fitted, fitted.transform(shops).tobytes()

    first, expected = latent()
    weights = [weight.copy() for weight in first.keras_model_.get_weights()]
    with pytest.raises(KeyboardInterrupt):
        latent(on_epoch=stop)
    assert latent(seed=1)[1] != expected
    assert latent()[1] == expected
    for before, now in zip(weights, first.keras_model_.get_weights(), strict=True):
        assert np.array_equal(before, now)


def test_fit_leaves_the_users_random_states_alone():
    tf, keras = load_keras()

    def draw():
        return [
            float(np.random.random()),  # noqa: NPY002  the global state is what is tested
            float(tf.random.normal([])),
            float(keras.random.normal([])),
        ]

    keras.utils.set_random_seed(7)
    undisturbed = [draw(), draw()]
    keras.utils.set_random_seed(7)
    first = draw()
    Autoencoder(epochs=2).fit(planted_shops(60))
    assert [first, draw()] == undisturbed


def test_seed_decides_the_weights():
    shops = planted_shops(100)
    one, two = (
        Autoencoder(epochs=2, seed=s).fit(shops).transform(shops) for s in (1, 2)
    )
    assert not np.allclose(one, two)


def test_training_restores_the_best_epoch_and_stops_early():
    epochs = []
    shops = planted_shops(200)
    model = Autoencoder(
        learning_rate=0.05,
        epochs=100,
        patience=3,
        on_epoch=lambda *report: epochs.append(report),
    ).fit(shops)
    losses = model.history_["val_loss"]
    assert model.best_epoch_ == int(np.argmin(losses)) + 1
    assert len(losses) == min(100, model.best_epoch_ + 3)
    assert [report[0] for report in epochs] == list(range(1, len(losses) + 1))
    assert {report[1] for report in epochs} == {100}
    assert [report[3] for report in epochs] == losses


def test_structure_is_restored_and_noise_is_not_mistaken_for_it():
    shops = planted_shops(400, seed=5)
    fitted = Autoencoder(latent_size=3, epochs=8).fit(shops)
    error = fitted.codec_.reconstruction_error(shops)
    assert error.shape == (len(shops),)
    assert error.mean() < 0.12
    noise = np.random.default_rng(6).normal(size=(400, 12))
    fitted = Autoencoder(latent_size=3, epochs=8).fit(noise)
    error = fitted.codec_.reconstruction_error(noise)
    assert error.mean() > 0.5


# --- the forward pass ---------------------------------------------------------------


def test_numpy_agrees_with_keras(fitted):
    _, keras = load_keras()
    shops = planted_shops(seed=7)
    full = fitted.keras_model_
    encoder = keras.Model(full.inputs, full.get_layer("latent").output)
    latent = fitted.transform(shops)
    np.testing.assert_allclose(
        latent, encoder.predict(shops, verbose=0), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        fitted.inverse_transform(latent),
        full.predict(shops, verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


def test_single_row_batch_and_shuffled_agree_bit_for_bit(fitted):
    shops = planted_shops(1000, seed=8) * np.logspace(-6, 6, 1000)[:, None]
    batch = fitted.transform(shops)
    errors = fitted.codec_.reconstruction_error(shops)
    restored = fitted.inverse_transform(batch)
    for i in range(0, 1000, 19):
        row = fitted.transform(shops[i : i + 1])
        assert row.tobytes() == batch[i].tobytes()
        assert fitted.inverse_transform(row).tobytes() == restored[i].tobytes()
        assert fitted.codec_.reconstruction_error(shops[[i]])[0] == errors[i]
    order = np.random.default_rng(9).permutation(1000)
    assert fitted.transform(shops[order]).tobytes() == batch[order].tobytes()
    fortran = np.asfortranarray(shops)
    assert fitted.transform(fortran).tobytes() == batch.tobytes()


finite = st.floats(-1e6, 1e6, allow_nan=False, width=64)


@given(
    arrays(np.float64, (9, 7), elements=finite),
    arrays(np.float64, (7, 5), elements=finite),
)
def test_dense_layer_is_exact_whatever_the_order_of_summation(rows, kernel):
    layer = Dense(kernel, np.zeros(5), "linear")
    batch = layer(rows)
    order = np.random.default_rng(0).permutation(7)
    reordered = Dense(kernel[order], np.zeros(5), "linear")(rows[:, order])
    assert batch.tobytes() == reordered.tobytes()
    size = np.abs(rows).max(axis=1)[:, None] * np.abs(kernel).max(axis=0) * 7
    negligible = 1e-250  # what is smaller may be taken as 0
    assert (np.abs(batch - rows @ kernel) <= size * 2.0**-23 + negligible).all()


def test_a_wide_layer_is_as_exact():
    rng = np.random.default_rng(10)
    layer = Dense(rng.normal(size=(700, 900)), np.zeros(900), "relu")
    rows = rng.normal(size=(40, 700))
    batch = layer(rows)
    assert all(layer(rows[[i]]).tobytes() == batch[i].tobytes() for i in range(40))


def test_rows_of_zeros_and_of_extreme_size_pass(fitted):
    shops = np.vstack([np.zeros(12), np.full(12, 1e-300), np.full(12, 1e29)])
    assert np.isfinite(fitted.transform(shops)).all()


def test_layer_norm_centres_each_row():
    layer = LayerNorm(np.ones(3), np.zeros(3), 0.0)
    assert layer(np.array([[1.0, 2.0, 3.0]]))[0] == pytest.approx(
        [-(1.5**0.5), 0, 1.5**0.5]
    )


# --- state -------------------------------------------------------------------------


def test_state_through_json_answers_bit_for_bit(fitted):
    shops = planted_shops(seed=11)
    state, meta = fitted.codec_.get_state()
    loaded = Codec.from_state(state, json.loads(json.dumps(meta)))
    latent = fitted.transform(shops)
    assert loaded.transform(shops).tobytes() == latent.tobytes()
    restored = loaded.decoder(latent)
    assert restored.tobytes() == fitted.inverse_transform(latent).tobytes()
    assert loaded.architecture == fitted.architecture


def test_a_state_that_names_every_option_as_earlier_versions_did_loads(fitted):
    state, meta = fitted.codec_.get_state()
    options = {"architecture": meta.pop("architecture"), "epochs": 15}
    loaded = Codec.from_state(state, {**meta, "options": options, "history": {}})
    assert loaded.architecture == fitted.architecture


LOAD_AND_TRANSFORM = """
import json, sys
import numpy as np
from core.models.autoencoder.network import Codec
def error(file, meta):
    model = Codec.from_state(dict(np.load(file)), meta)
    return model.reconstruction_error(np.ones((2, 12))).tolist()
print(json.dumps([error(*saved) for saved in json.loads(sys.argv[1])]))
assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def test_a_loaded_model_answers_without_tensorflow(of_every_architecture, tmp_path):
    saved, expected = [], []
    for fitted in of_every_architecture:
        state, meta = fitted.codec_.get_state()
        file = tmp_path / f"{fitted.architecture}.npz"
        np.savez(file, **state)
        saved.append((str(file), meta))
        error = fitted.codec_.reconstruction_error(np.ones((2, 12)))
        expected.append(error.tolist())
    result = run_python(LOAD_AND_TRANSFORM, json.dumps(saved))
    assert json.loads(result.stdout) == expected


def test_keras_file_loads_in_safe_mode_and_can_be_cut_at_latent(fitted, tmp_path):
    _, keras = load_keras()
    path = tmp_path / "autoencoder-model.keras"
    fitted.save_keras(path)
    model = keras.models.load_model(path, safe_mode=True)
    encoder = keras.Model(model.inputs, model.get_layer("latent").output)
    shops = planted_shops(seed=12)
    latent = encoder.predict(shops, verbose=0)
    np.testing.assert_allclose(latent, fitted.transform(shops), rtol=1e-5, atol=1e-5)


def test_incomplete_state_is_refused_by_name(fitted):
    state, meta = fitted.codec_.get_state()
    with pytest.raises(ArtifactError, match="`decoder`"):
        Codec.from_state(state, {k: meta[k] for k in meta if k != "decoder"})
    fewer = {k: v for k, v in state.items() if k != "decoder_0_kernel"}
    with pytest.raises(ArtifactError, match="decoder_0_kernel"):
        Codec.from_state(fewer, meta)
    with pytest.raises(ArtifactError, match="do not fit"):
        Codec.from_state(state | {"encoder_0_bias": np.zeros(3)}, meta)
    swapped = meta | {"encoder": meta["encoder"][:1]}
    with pytest.raises(ArtifactError, match="its decoder takes 5"):
        Codec.from_state(state, swapped)
    with pytest.raises(ArtifactError, match="unknown kind 'lstm'"):
        Network.from_state("encoder", state, [{"kind": "lstm"}])


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(planted_shops(60, 3), columns=["trend", "cv", "entropy"])
    model = Autoencoder(latent_size=2, epochs=1).fit(frame)
    assert model.get_feature_names_out().tolist() == ["latent_1", "latent_2"]
    with pytest.raises(ModelError, match="feature names"):
        model.transform(frame[["cv", "trend", "entropy"]])


# --- bad input ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e31])
def test_values_that_are_not_finite_are_refused_by_column(value):
    shops = planted_shops(50)
    shops[3, 2] = value
    with pytest.raises(ModelError, match=r"1 of 600 values .*columns `2`"):
        Autoencoder().fit(shops)


def test_too_few_shops_are_refused():
    with pytest.raises(ModelError, match=r"9 row.*at least 10"):
        Autoencoder().fit(planted_shops(9))


def test_ten_shops_are_enough():
    shops = planted_shops(10)
    assert Autoencoder(epochs=2).fit(shops).transform(shops).shape == (10, 5)


def test_equal_rows_are_refused():
    with pytest.raises(ModelError, match="all 40 rows are equal"):
        Autoencoder().fit(np.ones((40, 8)))


def test_a_constant_column_does_no_harm(fitted):
    shops = planted_shops()
    shops[:, 4] = 0.0
    model = Autoencoder(fitted.architecture, epochs=2).fit(shops)
    assert np.isfinite(model.transform(shops)).all()


def test_diverging_loss_is_refused_with_the_cure():
    with pytest.raises(ModelError, match=r"epoch 1 .*`FeatureScaler`"):
        Autoencoder(epochs=3).fit(planted_shops(100) * 1e25)


def test_latent_space_as_large_as_the_features_is_warned_about():
    with pytest.warns(UserWarning, match="nothing is compressed"):
        Autoencoder(latent_size=4, epochs=1).fit(planted_shops(30, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "denoise"}, "Did you mean `denoising`"),
        ({"latent_size": 0}, "`latent_size` is 0"),
        ({"latent_size": None}, "`latent_size` is None"),
        ({"epochs": 2.5}, "`epochs` is 2.5"),
        ({"patience": True}, "`patience` is True"),
        ({"corruption": -0.1}, "`corruption` is -0.1"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"validation_share": 1.0}, "`validation_share`"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_wrong_option_is_refused_with_what_is_expected(options, message):
    with pytest.raises(ConfigError, match=message):
        Autoencoder(**options).fit(planted_shops(20))


def test_latent_vectors_of_another_width_are_refused(fitted):
    with pytest.raises(ModelError, match=r"expected \(n_rows, 5\)"):
        fitted.inverse_transform(np.ones((3, 4)))
    with pytest.raises(ModelError, match="expecting 12 features"):
        fitted.transform(np.ones((3, 4)))
