"""Who may see the Monitor: links with tokens, passwords, JupyterHub, and the account that runs it."""
