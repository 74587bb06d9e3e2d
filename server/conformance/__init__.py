"""The conformance profile: our factory, transport, middleware and policies, with the fixtures of the official suite."""
