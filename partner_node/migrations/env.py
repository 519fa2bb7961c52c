"""Alembic's entry: the connection comes from the runner."""

from shared_schema.crm.migrations import run_environment

run_environment()
