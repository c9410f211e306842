"""The Jupyter kernel around the cards: messages, outputs and what the front-end can show."""
