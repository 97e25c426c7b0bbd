"""HTTP: metrics, health, status, and what a token lets programs ask for."""
