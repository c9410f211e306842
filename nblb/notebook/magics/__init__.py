"""The %lb_ magics and the %%lb cell magic."""
