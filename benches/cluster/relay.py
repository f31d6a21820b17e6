"""A relay between a node and Redis that counts round trips."""

import contextlib
import selectors
import socket
import threading


class Relay:
    """Passes bytes on in both directions. `trips` has a number for each connection that was opened."""

    def __init__(self, redis_port):
        self.redis_port = redis_port
        self.trips, self.scripts = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.wake, self.woken = socket.socketpair()
        self.selector.register(self.woken, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def accept(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(("127.0.0.1", self.redis_port))
        number = len(self.trips)
        self.trips.append(0)
        self.scripts.append(0)
        is_answered = [True]

        def ask():
            data = client.recv(1 << 18)
            # What comes before the answer to what came before belongs to the same trip.
            if data and is_answered[0]:
                self.trips[number] += 1
                is_answered[0] = False
            self.scripts[number] += data.count(b"EVALSHA")
            return data

        def answer():
            is_answered[0] = True
            return server.recv(1 << 18)

        for here, there, receive in ((client, server, ask), (server, client, answer)):
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(here, selectors.EVENT_READ, lambda a=here, b=there, r=receive: self.relay(a, b, r))

    def relay(self, here, there, receive):
        with contextlib.suppress(OSError):
            if data := receive():
                there.sendall(data)
                return
        for end in (here, there):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(end)
            end.close()

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                # Both ends of a connection may be ready, and the first have closed it.
                if key.fileobj.fileno() >= 0:
                    key.data()

    def seen(self):
        """Round trips and scripts of the connection with the most scripts, which is the one that writes."""
        return max(zip(self.scripts, self.trips), default=(0, 0))[::-1]

    def close(self):
        self.wake.send(b"x")
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.wake.close()


@contextlib.contextmanager
def relay(redis_port, seen):
    """A relay, which is also appended to `seen`."""
    found = Relay(redis_port)
    seen.append(found)
    try:
        yield found
    finally:
        found.close()
