"""Benchmarks of a cluster: `nblb bench`, and the cases that tests/benchmarks also runs on peers."""
