"""`make bench`: what a request costs in the gateway, beside an empty ASGI app, a bare proxy and nginx in the same run.

All on loopback, no root. Machines drift, so the servers take turns in short rounds and the ratios are what counts.
The CPU of a server includes the kernel's work in its name: writing to a loopback socket also delivers the data to the
peer and wakes it, which on virtual machines is a good part of the figure, for all servers alike.
"""
