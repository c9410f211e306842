"""Real processes, killed at random moments: `python -m tests.chaos --kills 200 --seed 7`."""
