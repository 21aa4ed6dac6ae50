"""A local OpenAI-compatible server for demos, load tests and benchmarks; it knows no model and asks for no key."""

from routing.mock_upstream.server import MockUpstream

__all__ = ["MockUpstream"]
