"""Jobs: named, ordered sets of tasks, which can be submitted, reused, retried, inspected and listed."""
