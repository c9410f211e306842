"""Rules that let long work survive failures: waits between attempts, and a limit of the failures of a job."""
