"""The client: tasks, futures, jobs, and the cluster that runs them."""
