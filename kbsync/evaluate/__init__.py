"""(model, requests) → outcomes: probes, metrics, drift, and the gate."""
