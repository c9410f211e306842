"""Rules that let long work survive failures: waits, limits, and saved states."""
