"""Language-model work: routing, fallback and pipelines. Knows nothing of MCP."""
