"""The report of retailers in a browser: from the first screen to one shop."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tabs import PAPER, Tab

from core.retailers.model import Model
from core.retailers.report.shops import shop_explorer

pytestmark = pytest.mark.chromium
PACKED = re.compile(r'(<script type="application/json" id="packed">)(.*?)(</script>)')
N_MANY = 100_000


@pytest.fixture(scope="module")
def shops(trained) -> pl.DataFrame:
    """All shops, with `shown`: their segment as the page says it."""
    read = pl.read_csv(
        trained / "cluster_predictions.csv", schema_overrides={"shop_id": pl.String}
    )
    named = pl.format("{} {}", "segment", "segment_name")
    is_placed = pl.col("segment") >= 0
    return read.with_columns(
        shown=pl.when(is_placed).then(named).otherwise("segment_name")
    )


@pytest.fixture
def page(tab, trained):
    yield opened(tab, trained / "report.html")
    assert tab.faults == []


def opened(tab: Tab, path: Path):
    """Open a report; return its page once all shops are unpacked."""
    page = tab.visit(path)
    page.locator("#explorer").wait_for()
    return page


def status(page) -> str:
    return page.locator("#explorer [role=status]").inner_text()


def choice(page, title: str):
    """Return one of the filters of the shop table."""
    label = page.locator("#explorer label").filter(has_text=re.compile(f"^{title} "))
    return label.locator("select")


def column(page, title: str) -> list[str]:
    """Return the cells of one column of the shop table."""
    titles = page.locator("#explorer thead th").all_inner_texts()
    place = [text.strip() for text in titles].index(title) + 1
    return page.locator(f"#explorer tbody tr > :nth-child({place})").all_inner_texts()


def test_the_first_screen_has_what_a_manager_needs(page, shops):
    head = page.locator("h1").inner_text()
    assert "of 300 shops" in head
    table = page.locator(".segments table")
    titles = " ".join(table.locator("thead th").all_inner_texts())
    for wanted in ("Shops", "Share of sales", "What to do", "How sure"):
        assert wanted in titles
    names = shops.filter(pl.col("segment") >= 0)["shown"].unique().sort().to_list()
    assert table.locator("tbody tr:not(.part, .rest) th").all_inner_texts() == names
    box = table.bounding_box()
    assert box["y"] + box["height"] <= page.viewport_size["height"]
    assert page.locator(".segments polyline").count() >= len(names)


def test_a_segment_leads_to_its_details_and_these_to_its_shops(page, shops):
    link = page.locator(".segments tbody a").nth(1)
    name = link.inner_text()
    link.click()
    article = page.locator("article:target")
    assert name in article.inner_text()
    article.get_by_role("link", name="shops in the table").click()
    own = shops.filter(shown=name)
    assert status(page) == f"{own.height} of {shops.height} shops"
    assert set(column(page, "Segment")) == {name}
    assert set(column(page, "Shop")) <= set(own["shop_id"])
    assert choice(page, "Segment").input_value() == name


def test_shops_are_searched_filtered_sorted_and_paged(page, shops):
    tools = page.locator("#explorer")
    shop = shops["shop_id"][123]
    tools.get_by_label("Find a shop").fill(shop.lower())
    assert column(page, "Shop") == [shop]
    tools.get_by_label("Find a shop").fill("")
    reason = shops["reason"].drop_nulls()[0]
    left_out = shops.filter(reason=reason)
    choice(page, "Why not segmented").select_option(reason)
    assert status(page) == f"{left_out.height} of {shops.height} shops"
    choice(page, "Why not segmented").select_option("all")
    tools.get_by_role("button", name="Shop", exact=True).click()
    seen = column(page, "Shop")
    while tools.get_by_role("button", name="Next").is_enabled():
        tools.get_by_role("button", name="Next").click()
        seen += column(page, "Shop")
    assert seen == shops["shop_id"].sort().to_list()


def test_the_map_names_the_shop_under_the_pointer(page, trained):
    packed = json.loads(PACKED.search((trained / "report.html").read_text("utf-8"))[2])
    data = json.loads(gzip.decompress(base64.b64decode(packed["data"])))
    # The loneliest shop: nobody else is as near to the pointer.
    places = np.array([data["x"], data["y"]]).T
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    distances[distances == 0] = np.inf
    distances[places[:, 0] < 0] = 0
    lonely = int(distances.min(axis=1).argmax())
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = places[lonely] / 1023
    place = (8 + x * (box["width"] - 16), 8 + (1 - y) * (box["height"] - 16))
    canvas.hover(position={"x": place[0], "y": place[1]})
    assert data["shop_id"][lonely] in page.locator(".tip").inner_text()
    canvas.click(position={"x": place[0], "y": place[1]})
    assert column(page, "Shop") == [data["shop_id"][lonely]]


def test_print_has_the_map_and_the_largest_shops_instead_of_controls(page, tab):
    page.emulate_media(media="print")
    tab.look(PAPER)
    assert page.locator("#explorer").is_hidden()
    assert page.locator("canvas").is_hidden()
    assert page.locator("figure.drawn img").is_visible()
    assert page.locator(".unscripted table").is_visible()


@pytest.fixture(scope="module")
def large(trained, tmp_path_factory) -> Path:
    """The report with as many shops as a large chain has, each like one of these."""
    model = Model.load(trained)
    shops = pl.read_parquet(trained / "shops.parquet").filter(
        pl.col("reason").is_null()
    )
    rng = np.random.default_rng(0)
    drawn = rng.integers(shops.height, size=N_MANY)
    many = shops[drawn].with_columns(
        shop_id=pl.Series(rng.permutation(N_MANY).astype(str)),
        strength=rng.random(N_MANY),
        sales_qty_last_12_months=rng.lognormal(8, 2, N_MANY),
    )
    features = pl.read_parquet(trained / "features.parquet")
    own = shops.select("shop_id").join(features, on="shop_id", maintain_order="left")
    noise = pl.Series(rng.normal(1, 0.1, N_MANY))
    own = own[drawn].select(
        many["shop_id"], *(pl.col(name) * noise for name in model.features)
    )
    folder = tmp_path_factory.mktemp("large")
    own.write_parquet(folder / "scored.parquet")
    packed = json.dumps(shop_explorer(many.lazy(), folder / "scored.parquet", model))
    page = (trained / "report.html").read_text("utf-8")
    path = folder / "report.html"
    path.write_text(
        PACKED.sub(lambda found: found[1] + packed + found[3], page), "utf-8"
    )
    return path


def test_a_hundred_thousand_shops_are_as_quick(tab, large):
    # The map's picture is the only other part that grows with the shops.
    assert large.stat().st_size < 2_500_000
    assert tab.is_quick(large)
    page = tab.page
    page.locator("#explorer").wait_for()
    n = int(status(page).partition(" ")[0].replace(",", ""))
    assert 80_000 < n <= N_MANY
    shop = column(page, "Shop")[0]
    page.get_by_label("Find a shop").fill(shop)
    assert shop in column(page, "Shop")
    page.get_by_label("Find a shop").fill("")
    page.locator("#explorer th button").first.click()
    assert [int(shop) for shop in column(page, "Shop")] == sorted(
        int(shop) for shop in column(page, "Shop")
    )
