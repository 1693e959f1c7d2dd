"""The store of customer profiles: a PostgreSQL, embedded or your own."""
