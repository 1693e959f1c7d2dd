"""The columns of orders and items, ours and those met in the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["id", "moment", "number", "text"]


@dataclass(frozen=True)
class Column:
    """One column of ours.

    Attributes
    ----------
    name : str
        Our name.
    kind : str
        `id`, `moment`, `number` or `text`.
    is_required : bool
        Whether a table without it is refused.
    synonyms : str
        Names met in the field, lower case, letters and digits only.
    """

    name: str
    kind: Kind
    is_required: bool
    synonyms: str


@dataclass(frozen=True)
class TableSpec:
    """One of the two tables.

    Attributes
    ----------
    name : str
        `orders` or `items`.
    option, flag : str
        What maps the user's names: in a configuration, and on the command line.
    columns : tuple of Column
        In our order.
    """

    name: str
    option: str
    flag: str
    columns: tuple[Column, ...]

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


_CUSTOMER = (
    "customer custid customercode customernumber client clientid account accountid "
    "buyer buyerid shopper shopperid household householdid householdkey user userid "
    "member memberid"
)
_ORDER = (
    "order ordernumber orderno invoice invoiceid invoiceno invoicenumber basketid "
    "transaction transactionid receipt receiptid saleid cartid"
)
ORDERS = TableSpec(
    "orders",
    "axes.order_columns",
    "--order-column",
    (
        Column("customer_id", "id", True, _CUSTOMER),
        Column("order_id", "id", True, _ORDER),
        Column(
            "order_date",
            "moment",
            True,
            "date datetime timestamp orderts ts time createdat orderedat invoicedate "
            "transactiondate transactiontimestamp purchasedate saledate placedat",
        ),
        Column(
            "total_price",
            "number",
            True,
            "total amount ordertotal ordervalue totalamount value salesvalue revenue "
            "grandtotal price subtotal netamount payment",
        ),
        Column(
            "discount_amount",
            "number",
            False,
            "discount discounts totaldiscount totaldiscounts discountvalue rebate",
        ),
        Column("source", "text", False, "channel sourcename saleschannel orderchannel"),
    ),
)
ITEMS = TableSpec(
    "items",
    "axes.item_columns",
    "--item-column",
    (
        Column("customer_id", "id", False, _CUSTOMER),
        Column("order_id", "id", True, _ORDER),
        Column(
            "product_id",
            "id",
            True,
            "product productcode productnumber sku skuid stockcode item itemid "
            "itemcode article articleid material materialid ean upc barcode",
        ),
        Column("quantity", "number", True, "qty units pieces pcs count volume"),
        Column("price", "number", True, "unitprice itemprice priceperunit pricepaid"),
        Column(
            "category",
            "text",
            False,
            "productcategory categoryname producttype department productgroup aisle",
        ),
        Column(
            "refund_amount",
            "number",
            False,
            "refund refunds refunded refundedamount returnamount returned",
        ),
    ),
)
