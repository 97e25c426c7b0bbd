"""Changes ↔ rows: the SQL store, which is the truth that every synced model can be rebuilt from."""
