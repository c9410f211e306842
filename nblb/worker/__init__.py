"""The worker process: it loads the functions of users and calls them."""
