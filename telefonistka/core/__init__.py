"""What to do. Pure functions from values to values: no I/O, no clock, no environment, no logging."""
