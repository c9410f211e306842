"""The worker processes of a hub: it forks them, exchanges messages with them and explains their deaths."""
