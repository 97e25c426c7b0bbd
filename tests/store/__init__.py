"""Tests of the store, on real SQLite and real PostgreSQL."""
