"""Submitting: from a Python call to the messages that submit it."""
