"""Shops: from sales rows to segments, then new rows by the saved model.

python examples/shops.py [FOLDER]
"""

import sys

import polars as pl

from stable_segments import Config, Model, run_all

folder = sys.argv[1] if len(sys.argv) > 1 else "artifacts/example-shops"

# Your own rows instead: run_all(config, sales), with any frame of
# shop_id, product_id, year, month, sales_qty; or Config(data={"path": "sales.csv"}).
config = Config(artifacts=folder, sample={"n_shops": 300})
prepared, _, _, inferred = run_all(config)
print(prepared)
print("\n".join(inferred.lines))

model = Model.load(folder)
print(model)

# A shop that the model has not seen: three years, more in summer.
months = [(year, month) for year in (2022, 2023, 2024) for month in range(1, 13)]
rows = pl.DataFrame(
    {
        "shop_id": ["NEW"] * len(months),
        "product_id": ["P1"] * len(months),
        "year": [year for year, _ in months],
        "month": [month for _, month in months],
        "sales_qty": [300 if 6 <= month <= 8 else 100 for _, month in months],
    }
)
placed = model.assign_sales(rows)
print(placed.select("shop_id", "segment", "segment_name", "state"))
