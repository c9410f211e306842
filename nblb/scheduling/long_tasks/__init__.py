"""Rules that let long work survive failures: waits between the attempts of a call."""
