"""Who may connect to a core from another computer, and as whom: keys, invitations, connection files, the audit log."""
