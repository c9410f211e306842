"""The Health Check and the Monitor: two processes that observe a cluster from outside."""
