"""What runs next, where, and what becomes of it: pure, so that the broker, the tests and the simulator share it."""
