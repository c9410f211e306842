"""Connections between computers: ZeroMQ over TCP, encrypted and authenticated with CURVE.

The core has one key pair, each party another. A ZAP handler in the core's own loop (zap.py) decides at the handshake
who may connect; the key of the connection, which ZeroMQ gives with each message, then says who sends.
"""
