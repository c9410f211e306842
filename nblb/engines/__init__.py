"""Engines: other systems that run the calls of a hub (any Executor, Dask), behind one protocol (engine.py)."""
