"""Post-mortem debugging of failed tasks, without the process that ran them."""
