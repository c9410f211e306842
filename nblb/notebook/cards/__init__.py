"""Live cards of clusters, jobs and tasks, and the pictures that stay in a saved notebook."""
