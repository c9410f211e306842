"""Looking at a cluster from outside: the Health Check and the Monitor, each a process of its own."""
