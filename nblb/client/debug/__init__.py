"""Debugging of failed tasks without their process."""
