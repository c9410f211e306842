"""Futures of tasks, with the live state that they show while a task runs."""
