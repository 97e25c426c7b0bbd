"""Weights become a durable model: manifest, write, verify, apply, publish, prune, export."""
