"""Tests of kbsync.source, against a real SPARQL server on loopback and a server of faults."""
