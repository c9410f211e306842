"""The pure half of a client: the state that a client and the core keep of each other's messages."""
