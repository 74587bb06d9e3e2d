"""Searches as durable jobs: points proposed, evaluated and recorded batch by batch, judged together at the end."""
