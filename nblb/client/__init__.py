"""The user's side: tasks, futures, jobs and the cluster they run on."""
