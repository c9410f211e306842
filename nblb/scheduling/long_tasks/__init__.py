"""Rules that let long work survive failures: waits, limits, deadlines, and saved states."""
