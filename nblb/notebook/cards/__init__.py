"""Live cards of clusters, jobs and tasks, and the static form that stays in a saved notebook."""
