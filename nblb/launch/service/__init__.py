"""Systemd units for the processes of a cluster, so that they start with the computer and outlive a log-out."""
