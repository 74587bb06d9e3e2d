"""How the outside world gets in: command line, MCP transports, settings and the composition root."""
