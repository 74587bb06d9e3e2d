"""Computation and storage. Knows nothing of MCP or language models."""
