"""Shops, step by step: what `run_all` does in one call, and how stable it is.

python examples/steps.py [FOLDER]
"""

import sys

from stable_segments import (
    Config,
    Model,
    measure_stability,
    prepare_features,
    run_inference,
    train_autoencoder,
    train_clustering,
)

folder = sys.argv[1] if len(sys.argv) > 1 else "artifacts/example-steps"

# Few shops and epochs, for the sake of a quick example.
config = Config(artifacts=folder, sample={"n_shops": 150}, autoencoder={"epochs": 5})
# Of your own rows: prepare_features(config, sales)
prepared = prepare_features(config)
print("\n".join(prepared.lines))

trained = train_autoencoder(config)
print("\n".join(trained.lines))

clustered = train_clustering(config)
print("\n".join(clustered.lines))

inferred = run_inference(config)
print("\n".join(inferred.lines))

measured = measure_stability(folder, n_refits=2)
print("\n".join(measured.lines))

model = Model.load(folder)
print(model)
