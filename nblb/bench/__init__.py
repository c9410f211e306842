"""How fast a cluster is, and what limits it: `nblb bench`, and the cases that tests/benchmarks gives to peers too."""
