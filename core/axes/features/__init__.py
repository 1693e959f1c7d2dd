"""Features of customers, from orders and items."""
