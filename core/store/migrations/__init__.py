"""Steps from one layout of the tables to the next, for alembic.

A step is a file of its own. It is handed alembic's operations as `op` rather than
importing them, since alembic is imported in one place only, and late.
"""
