"""The scheduler: it decides what runs next and where. Pure, so the broker, the tests and the simulator share it."""
