"""Futures of tasks, and what they show while the task runs."""
