"""The pure half of a client: what the client and the core owe each other."""
