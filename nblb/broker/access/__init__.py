"""Decides what parties on other computers may do: keys at the handshake, rights of roles, administration."""
