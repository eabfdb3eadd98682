"""A local GitHub over real git: what `telefonistka demo` and `telefonistka sandbox` start, and what the tests talk to.

`server.running()` is the way in; state.py says what there is and who does what.
"""
