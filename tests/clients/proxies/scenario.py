"""HAProxy and nginx in front of the broker, which has to tell the clients behind them apart."""

import contextlib
import re
import tempfile

from proxies import CLIENT, PROXY, HAProxy, Nginx

from paho_client import Client

from harness import (
    WITH_TLS,
    Address,
    Suite,
    certificate,
    client_context,
    connect,
    expect,
    main,
    running,
)

ALL = ("tcp", "tls", "ws", "wss")
TRUSTED = ["--trusted-proxies", PROXY]
EXPECTING = ["--proxy-protocol", ",".join(ALL), *TRUSTED]


def expect_peer(broker, client, peer):
    """What the broker has logged of the client; a peer without port stands for any port."""
    logged = broker.wait_for_log(rf'connected client="?{re.escape(client)}"? peer=(\S+)')[1]
    expect(logged if ":" in peer else logged.rsplit(":", 1)[0], peer, f"peer that the broker logs for {client}")


def exchange(client):
    """Something in both directions, more than fits into one segment."""
    client.subscribe("through/the/proxy")
    client.publish("through/the/proxy", "x" * 200_000, 1)
    client.expect_message("through/the/proxy", "x" * 200_000, 1)


def haproxy(option):
    """Each listener of the broker behind HAProxy; TLS passes through it, from the client to the broker."""

    def case():
        with running("-v", *EXPECTING, transports=ALL) as broker:
            with HAProxy([(address, option, "", []) for address in broker.addresses]) as proxy:
                for address, port in zip(broker.addresses, proxy.ports):
                    name = f"behind-haproxy-{address.transport}"
                    with Client(Address(address.transport, port), "v5", name, source=CLIENT) as client:
                        exchange(client)
                        expect_peer(broker, name, client.local_address)
                        client.disconnect()

    return case


def haproxy_ends_tls():
    """TLS ends at HAProxy, which asks for a client certificate, and tells of it in the header."""
    with tempfile.NamedTemporaryFile("w", suffix=".acl") as access:
        access.write("user client\ntopic readwrite through/the/proxy\n")
        access.flush()
        options = ["--proxy-protocol", "tcp", *TRUSTED, "--tls-username", "cn", "--acl-file", access.name]
        bind = f"ssl crt IDENTITY ca-file {certificate('ca.pem')} verify required"
        with running("-v", *options) as broker:
            with HAProxy([(broker.addresses[0], "send-proxy-v2-ssl-cn", bind, [])]) as proxy:
                address = Address("tls", proxy.ports[0])
                with Client(address, "v5", "tls-ends-early", source=CLIENT, identity="client") as client:
                    exchange(client)
                    expect_peer(broker, "tls-ends-early", client.local_address)
                    client.disconnect()


# A client that connects, is accepted, and leaves.
CHECK = [
    "option tcp-check",
    "tcp-check connect send-proxy",
    "tcp-check send-binary 101200044d5154540402000000066865616c7468",
    "tcp-check expect binary 20020000",
    "tcp-check send-binary e000",
]


def haproxy_checks():
    """HAProxy looks after the broker as a client of its own: the header says LOCAL, and its own address counts."""
    with running("-v", "--proxy-protocol", "tcp", *TRUSTED) as broker:
        options = "send-proxy-v2 check inter 50ms fall 1 rise 1"
        with HAProxy([(broker.addresses[0], options, "", CHECK)]) as proxy:
            own = rf'connected client="health" peer={re.escape(PROXY)}:'
            broker.wait_for_log(rf"(?s)({own}.*){{5}}")
            # Had a check failed, this one would not reach the broker.
            with Client(Address("tcp", proxy.ports[0]), "v5", "between-checks", source=CLIENT) as client:
                exchange(client)
                expect_peer(broker, "between-checks", client.local_address)


def many_clients():
    """Clients from several addresses at once are not mixed up."""
    with running("-v", "--proxy-protocol", "tcp", *TRUSTED) as broker:
        with HAProxy([(broker.addresses[0], "send-proxy-v2", "", [])]) as proxy, contextlib.ExitStack() as stack:
            address = Address("tcp", proxy.ports[0])
            for n in range(50):
                name = f"client-{n}-of-many"
                client = Client(address, "v5", name, source=f"127.0.1.{n + 1}")
                stack.enter_context(client)
                expect_peer(broker, name, client.local_address)


def header_v1(source):
    return f"PROXY TCP4 {source} 127.0.0.1 4000 1883\r\n".encode()


def answer_to(address, source, data):
    """What the broker answers to some bytes from a local address, until it closes or has accepted a client."""
    with connect(address, source) as sock:
        with contextlib.suppress(OSError):
            if address.transport in WITH_TLS and not data.startswith(b"PROXY"):
                sock = client_context().wrap_socket(sock, server_hostname="127.0.0.1")
            sock.sendall(data)
            return sock.recv(4)
        return b""


def not_from_a_proxy():
    """Where the broker expects proxies, it takes nobody else, whatever they say; and a proxy has to say something."""
    hello = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04liar"
    with running("-v", "--proxy-protocol", "tcp", *TRUSTED) as broker:
        address = broker.addresses[0]
        accepted = b"\x20\x02\x00\x00"
        expect(answer_to(address, PROXY, header_v1("192.0.2.1") + hello), accepted, "answer to a trusted proxy")
        expect_peer(broker, "liar", "192.0.2.1:4000")
        expect(answer_to(address, CLIENT, header_v1("192.0.2.1") + hello), b"", "answer to a proxy not trusted")
        expect(answer_to(address, PROXY, hello), b"", "answer to a proxy that says nothing of its client")
        expect(answer_to(address, PROXY, header_v1("nonsense") + hello), b"", "answer to a broken header")


def nginx(scheme, headers, expected):
    """WebSocket behind nginx, which says in a header for whom it asks, behind what the client itself has said."""

    def case():
        with running("-v", *TRUSTED, transports=("ws", "wss")) as broker:
            listen = "ssl" if scheme == "wss" else ""
            with Nginx([(address, listen) for address in broker.addresses]) as proxy:
                for address, port in zip(broker.addresses, proxy.ports):
                    name = f"behind-nginx-{address.transport}"
                    with Client(Address(scheme, port), "v5", name, source=CLIENT, headers=headers) as client:
                        exchange(client)
                        expect_peer(broker, name, expected)
                        client.disconnect()

    return case


def header_without_a_proxy():
    """Who comes without a proxy is not believed."""
    with running("-v", *TRUSTED, transports=("ws", "wss")) as broker:
        for address in broker.addresses:
            name = f"alone-{address.transport}"
            headers = {"X-Forwarded-For": "192.0.2.1"}
            with Client(address, "v5", name, source=CLIENT, headers=headers) as client:
                exchange(client)
                expect_peer(broker, name, client.local_address)


def suites():
    behind = Suite("HAProxy", transports=())
    for option in ("send-proxy", "send-proxy-v2"):
        behind.add(f"{option} in front of TCP, TLS, ws and wss", haproxy(option))
    behind.add("TLS ends at the proxy", haproxy_ends_tls)
    behind.add("health checks", haproxy_checks)
    behind.add("50 clients from 50 addresses", many_clients)
    behind.add("others are not taken for a proxy", not_from_a_proxy)
    yield behind
    behind = Suite("nginx", transports=())
    for scheme in ("ws", "wss"):
        behind.add(f"{scheme} to ws and wss", nginx(scheme, None, CLIENT))
    behind.add("a client that invents another", nginx("ws", {"X-Forwarded-For": "192.0.2.1"}, CLIENT))
    behind.add("a client that writes nonsense before", nginx("ws", {"X-Forwarded-For": "nönsense"}, CLIENT))
    behind.add("the header without a proxy", header_without_a_proxy)
    yield behind


if __name__ == "__main__":
    main(list(suites()))
