"""Rows of the store's views, as the commands that look print them."""

from __future__ import annotations

from kbsync.store.viewed import rows as rows
