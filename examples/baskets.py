"""Grocery baskets: from orders and items to four segments, as SQL for a database.

python examples/baskets.py [FOLDER]
"""

import sys

import polars as pl

from stable_segments import Config
from stable_segments.baskets.run import run_baskets
from stable_segments.rules.compile import to_sql
from stable_segments.rules.grammar import read_rules

folder = sys.argv[1] if len(sys.argv) > 1 else "artifacts/example-baskets"

config = Config(artifacts=folder, baskets={"sample_customers": 200})
result = run_baskets(config)
print("\n".join(result.lines))

segments = pl.read_parquet(result.folder / "segments.parquet")
print(segments["segment"].value_counts(sort=True))

rules = read_rules(result.folder / "rules.yaml")
print(to_sql(rules, "postgres", "customers"))
