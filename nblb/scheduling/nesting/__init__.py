"""Nested tasks, which are submitted by tasks: their parents, workers that wait for them, calls that return them."""
