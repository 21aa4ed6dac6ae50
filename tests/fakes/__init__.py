"""Upstreams that misbehave on real sockets, and a load client that notices every wrong byte."""
