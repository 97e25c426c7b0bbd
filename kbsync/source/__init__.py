"""Wikidata → changes: a polite SPARQL client, standard queries, parsing, diffing and the two pulls."""
