"""Customers on 13 axes: from orders to profiles, then one customer by the saved model.

python examples/customers.py [FOLDER]
"""

import sys

import polars as pl

from stable_segments import Config
from stable_segments.axes import AxesAssigner, run_axes

folder = sys.argv[1] if len(sys.argv) > 1 else "artifacts/example-customers"

# Your own rows instead: run_axes(config, orders, items), with any frames.
config = Config(artifacts=folder, axes={"sample_customers": 800})
result = run_axes(config)
print(result)

profiles = pl.read_parquet(result.folder / "customer_profiles.parquet")
print(profiles.select("customer_id", "segment_memberships", "lifetime_value").head(3))

assigner = AxesAssigner.load(result.folder)
for axis, names in assigner.model.names.items():
    print(f"{axis}: {', '.join(names.values())}")
