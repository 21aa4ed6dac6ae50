"""One worker process: `python -m llmproxy_site.worker SOCKET CHANNEL APPLICATION`, the first two being descriptors.

It tells the channel once that it serves, and drains when the channel ends, because then its supervisor is gone.
"""

import os
import socket
import sys
import threading

import django

from llmproxy_site.server import DrainingServer, serve_on

READY = b"r"


def main(listening_descriptor: int, channel_descriptor: int, application: str) -> None:
    """Serves until it is told to stop or the channel ends."""
    channel = socket.socket(fileno=channel_descriptor)
    listening = socket.socket(fileno=listening_descriptor)
    for inherited in (channel, listening):  # a process that the worker starts must not keep its port open after it
        inherited.set_inheritable(False)
    django.setup()
    server = serve_on(listening, on_ready=lambda: channel.sendall(READY), application=application)
    threading.Thread(target=_watch, args=[channel, server], name="supervisor-watch", daemon=True).start()
    server.run([listening])


def _watch(channel: socket.socket, server: DrainingServer) -> None:
    """The supervisor never sends: what comes is the end of the channel."""
    channel.recv(1)
    server.drain()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmproxy_site.settings")  # noqa: TID251 - an entry point like manage.py
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
