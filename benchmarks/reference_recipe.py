"""The published recipe, written plainly: what the pipelines are measured against.

Four steps, each meant to run in its own process: 29 features with pandas, RobustScaler
and an autoencoder with Keras, HDBSCAN on the scaled features and on the latent vectors,
then labels by ``approximate_predict`` with per-cluster statistics. Nothing of `core` is
used. Its files are pickles: read only a folder that this script wrote.

Run: ``python benchmarks/reference_recipe.py STEP --input FILE --work DIR`` with STEP
one of ``prepare``, ``train``, ``cluster``, ``infer``, or ``all`` in one process.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

SEED = 42
MIN_MONTHS = 12
MIN_MONTHS_PER_YEAR = 6
LATENT_SIZE = 5
MIN_CLUSTER_SIZE = 50
SALES_COLUMNS = ["shop_id", "product_id", "year", "month", "sales_qty"]


def read_sales(path: Path) -> pd.DataFrame:
    """Return the sales rows of a Parquet or CSV file."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path, columns=SALES_COLUMNS)
    ids = {"shop_id": "string", "product_id": "string"}
    return pd.read_csv(path, usecols=SALES_COLUMNS, dtype=ids)


def monthly_totals(sales: pd.DataFrame) -> pd.DataFrame:
    """Return quantity and distinct products per shop, year and month."""
    months = sales.groupby(["shop_id", "year", "month"], sort=False)
    return months.agg(
        qty=("sales_qty", "sum"), n_products=("product_id", "nunique")
    ).reset_index()


def eligible_only(monthly: pd.DataFrame) -> pd.DataFrame:
    """Keep the months of shops with enough months, in all and per active year."""
    active = monthly[monthly["qty"] > 0]
    shops = active.groupby("shop_id")
    n_months, n_years = shops.size(), shops["year"].nunique()
    is_eligible = (n_months >= MIN_MONTHS) & (n_months / n_years >= MIN_MONTHS_PER_YEAR)
    return active[active["shop_id"].isin(is_eligible.index[is_eligible])]


def calendar_means(monthly: pd.DataFrame, column: str, prefix: str) -> pd.DataFrame:
    """Return the mean over years for each calendar month, 0 where never active."""
    means = monthly.pivot_table(
        index="shop_id", columns="month", values=column, aggfunc="mean", fill_value=0.0
    )
    means = means.reindex(columns=range(1, 13), fill_value=0.0)
    return means.set_axis([f"{prefix}_{month}" for month in range(1, 13)], axis=1)


def yearly_growth(yearly: pd.Series) -> pd.Series:
    """Return each shop's median relative change from year to year, 0 if undefined."""
    change = yearly.groupby(level="shop_id").pct_change()
    change = change.replace([np.inf, -np.inf], np.nan)
    return change.groupby(level="shop_id").median().fillna(0.0)


def entropy(monthly: pd.DataFrame) -> pd.Series:
    """Return the entropy of monthly sales over ln(calendar months), 0 if only one."""
    shops = monthly.groupby("shop_id")
    share = monthly["qty"] / shops["qty"].transform("sum")
    total = (-share * np.log(share)).groupby(monthly["shop_id"]).sum()
    n_calendar = shops["month"].nunique()
    return (total / np.log(n_calendar.where(n_calendar > 1))).fillna(0.0)


def feature_table(monthly: pd.DataFrame) -> pd.DataFrame:
    """Return the 29 baseline features, one row per shop."""
    shops = monthly.groupby("shop_id")
    spread = shops[["qty", "n_products"]].std() / shops[["qty", "n_products"]].mean()
    years = monthly.groupby(["shop_id", "year"])
    rest = pd.DataFrame(
        {
            "cv_monthly_sales_qty": spread["qty"],
            "cv_monthly_unique_products": spread["n_products"],
            "monthly_sales_entropy": entropy(monthly),
            "median_yoy_sales_growth": yearly_growth(years["qty"].sum()),
            "median_yoy_spread_growth": yearly_growth(years["n_products"].mean()),
        }
    )
    return pd.concat(
        [
            calendar_means(monthly, "qty", "avg_sales_qty_month"),
            calendar_means(monthly, "n_products", "avg_unique_products_month"),
            rest.fillna(0.0),
        ],
        axis=1,
    )


def prepare(sales_file: Path, work: Path) -> None:
    """Step 1: from sales rows to ``features.csv``."""
    monthly = eligible_only(monthly_totals(read_sales(sales_file)))
    feature_table(monthly).to_csv(work / "features.csv")


def read_features(work: Path) -> pd.DataFrame:
    """Return the features that step 1 saved."""
    return pd.read_csv(work / "features.csv", index_col="shop_id")


def build_autoencoder(n_features: int):  # noqa: ANN201 - keras is imported here only
    """Return the published network and its encoder half."""
    from keras import Model, layers, regularizers

    def narrow(size: int, activation: str) -> layers.Dense:
        penalty = regularizers.l2(1e-4)
        return layers.Dense(
            size, activation, use_bias=False, kernel_regularizer=penalty
        )

    inputs = layers.Input((n_features,))
    hidden = narrow(n_features // 2, "relu")(layers.BatchNormalization()(inputs))
    code = narrow(LATENT_SIZE, "linear")(layers.BatchNormalization()(hidden))
    latent = layers.LayerNormalization(name="latent")(code)
    outputs = layers.Dense(n_features)(
        layers.Dense(n_features // 2, activation="relu")(latent)
    )
    return Model(inputs, outputs), Model(inputs, latent)


def train(work: Path) -> None:
    """Step 2: fit the scaler and the autoencoder, plot the loss."""
    import keras
    import matplotlib as mpl
    from sklearn.preprocessing import RobustScaler

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    keras.utils.set_random_seed(SEED)
    scaler = RobustScaler()
    scaled = scaler.fit_transform(read_features(work))
    model, encoder = build_autoencoder(scaled.shape[1])
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(
        scaled,
        scaled,
        epochs=30,
        batch_size=300,
        validation_split=0.35,
        callbacks=[keras.callbacks.EarlyStopping(patience=5)],
        verbose=0,
    ).history
    encoder.save(work / "autoencoder-model.keras")
    joblib.dump(scaler, work / "feature-scaler.pkl")
    plt.plot(history["loss"], label="training")
    plt.plot(history["val_loss"], label="validation")
    plt.legend()
    plt.savefig(work / "loss-plot.png")


def read_spaces(work: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return the features, and every shop in both spaces."""
    import keras

    features = read_features(work)
    raw = joblib.load(work / "feature-scaler.pkl").transform(features)
    encoder = keras.models.load_model(work / "autoencoder-model.keras")
    latent = encoder.predict(raw, batch_size=4096, verbose=0)
    return features, {"latent": latent.astype(np.float64), "raw": raw}


def cluster(work: Path) -> None:
    """Step 3: HDBSCAN, with what predictions need, in both spaces."""
    from hdbscan import HDBSCAN

    _, spaces = read_spaces(work)
    for name, points in spaces.items():
        model = HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, prediction_data=True)
        joblib.dump(model.fit(points), work / f"hdbscan-{name}.pkl")


def infer(work: Path) -> None:
    """Step 4: label every shop in both spaces and describe the clusters."""
    from hdbscan import approximate_predict

    features, spaces = read_spaces(work)
    labels = pd.DataFrame(index=features.index)
    insights = {}
    for name, points in spaces.items():
        model = joblib.load(work / f"hdbscan-{name}.pkl")
        label, strength = approximate_predict(model, points)
        labels[f"{name}_cluster"] = label
        labels[f"{name}_cluster_strength"] = strength
        groups = features.groupby(label)
        table = groups.agg(["mean", "median", "std"])
        table.columns = [f"{feature}_{figure}" for feature, figure in table.columns]
        insights[name] = table.assign(size=groups.size())
    labels.to_csv(work / "cluster_predictions.csv")
    pd.concat(insights, names=["space", "cluster"]).to_csv(
        work / "cluster_insights.csv"
    )


def main() -> None:
    """Run the step named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["prepare", "train", "cluster", "infer", "all"])
    parser.add_argument("--input", type=Path, required=True, help="sales rows")
    parser.add_argument("--work", type=Path, required=True, help="folder for its files")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    if chosen.step in {"prepare", "all"}:
        prepare(chosen.input, chosen.work)
    for name, step in {"train": train, "cluster": cluster, "infer": infer}.items():
        if chosen.step in {name, "all"}:
            step(chosen.work)


if __name__ == "__main__":
    main()
