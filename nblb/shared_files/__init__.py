"""Bytes that processes of one computer exchange through files instead of messages."""
