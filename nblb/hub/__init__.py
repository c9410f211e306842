"""The process of a hub: it runs worker processes and reports to the core."""
