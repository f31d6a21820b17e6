"""HAProxy and nginx as the scenarios put them in front of the broker."""

import os
import signal
import socket
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support"), os.path.join(HERE, "..", "paho-mqtt")]

from harness import Child, certificate, expect, show  # noqa: E402

# The proxies reach the broker from here, clients come from there: else nobody could tell the addresses apart.
PROXY, CLIENT = "127.0.0.3", "127.0.0.2"

class Proxy:
    """A proxy in the foreground, with a listener for each address of the broker; its `with` block ends it."""

    def __init__(self, targets):
        self._directory = tempfile.TemporaryDirectory(prefix="proxy-")
        # Opened here, so that the kernel chooses the ports and no client comes too early.
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in targets]
        self.ports = [listener.getsockname()[1] for listener in self._listeners]
        self._file("identity.pem", open(certificate("server.pem")).read() + open(certificate("server.key")).read())
        self._child = self._start(targets)

    def _file(self, name, text):
        path = os.path.join(self._directory.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _run(self, command, **environment):
        fds = [listener.fileno() for listener in self._listeners]
        child = Child(command, env={**os.environ, **environment}, pass_fds=fds)
        for listener in self._listeners:
            listener.close()
        return child

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            # Whatever has happened: the worker of nginx would outlive it, were it just killed.
            status = self._child.terminate()
            if kind is not None:
                show("\n".join(iter(self._child.lines.next, None)))
            else:
                expect(status, self.status_after_terminate, f"exit code of {self._child.name}")
        finally:
            self._child.kill()
            self._directory.cleanup()


class HAProxy(Proxy):
    """Targets are `(address, what the line of the server says, what that of the listener says, further lines)`."""

    status_after_terminate = -signal.SIGTERM

    def _start(self, targets):
        lines = ["defaults", "mode tcp", "timeout connect 10s", "timeout client 60s", "timeout server 60s"]
        for n, (listener, (address, server, bind, further)) in enumerate(zip(self._listeners, targets)):
            bind = bind.replace("IDENTITY", os.path.join(self._directory.name, "identity.pem"))
            lines += [f"listen target{n}", f"bind fd@{listener.fileno()} {bind}", *further]
            lines += [f"server broker 127.0.0.1:{address.port} source {PROXY} {server}"]
        return self._run(["haproxy", "-db", "-f", self._file("haproxy.cfg", "\n".join(lines) + "\n")])


class Nginx(Proxy):
    """Targets are `(address, what the server block says besides)`."""

    status_after_terminate = 0

    def _start(self, targets):
        directory = self._directory.name
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        servers = "".join(self._server(port, *target) for port, target in zip(self.ports, targets))
        text = (
            f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr; events {{}}"
            f" http {{ access_log off; {paths} {servers} }}\n")
        command = ["nginx", "-e", "stderr", "-p", directory, "-c", self._file("nginx.conf", text)]
        # By this variable nginx hands its listeners to its successor.
        inherited = "".join(f"{listener.fileno()};" for listener in self._listeners)
        return self._run(command, NGINX=inherited)

    def _server(self, port, address, listen=""):
        directory = self._directory.name
        certificates = f"ssl_certificate {directory}/identity.pem; ssl_certificate_key {directory}/identity.pem;"
        scheme = "https" if address.transport == "wss" else "http"
        return (
            f"server {{ listen 127.0.0.1:{port} {listen}; {certificates if listen else ''} location /mqtt {{"
            f" proxy_pass {scheme}://127.0.0.1:{address.port}; proxy_bind {PROXY}; proxy_http_version 1.1;"
            " proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;"
            ' proxy_set_header Connection "upgrade";'
            " proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }")
