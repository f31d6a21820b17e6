"""Client certificates shown by mosquitto_pub and mosquitto_sub."""

import os
import shutil
import subprocess
import tempfile

from mosquitto_clients import Sub, common, identity, publish

from harness import DEADLINE, Failure, Suite, certificate, expect_that, main, running, wait_until

AUTHORITY = ["--tls-ca", certificate("ca.pem")]
REVOKED = ["--tls-crl", certificate("crl.pem")]
# Another authority's, nobody's, one of 2020, and one that the revocation list names.
BAD = ("other", "self-signed", "expired", "revoked")


def attempt(address, *options, topic="certificates"):
    """Publishes as long as mosquitto_pub tries; whether the broker has acknowledged it."""
    command = common("mosquitto_pub", address, "v5", None) + ["-t", topic, "-m", "refused", "-q", "1"]
    command += options
    try:
        done = subprocess.run(command, timeout=DEADLINE, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"mosquitto_pub neither succeeds nor fails within {DEADLINE} s: {error.stderr!r}") from None
    return done.returncode == 0


def case_of(accepted, refused):
    """Those accepted send and receive, and of those refused nothing is heard; TLS 1.2 and 1.3 refuse differently."""

    def case(address):
        for tls in ("tlsv1.2", "tlsv1.3"):
            with Sub(address, "v5", "certificates", *options(accepted[0], tls)) as sub:
                for name in refused:
                    expect_that(not attempt(address, *options(name, tls)), f"{tls}: the broker took {name}")
                for name in accepted:
                    publish(address, "v5", "certificates", f"from {name}", *options(name, tls), qos=1)
                    sub.expect_message("certificates", f"from {name}", 1)
                sub.end()

    return case


def options(name, tls):
    return ["--tls-version", tls, *identity(name)]


def server_of_another_authority(address):
    """The client refuses the broker, and the broker does not mind."""
    trust = ["--cafile", certificate("other-ca.pem")]
    expect_that(not attempt(address, *trust), "mosquitto_pub does not check the broker")
    with Sub(address, "v5", "certificates") as sub:
        publish(address, "v5", "certificates", "still served", qos=1)
        sub.expect_message("certificates", "still served", 1)


def revoked_while_running():
    """The revocation list is read again on SIGHUP, and when its file has changed."""
    for hang_up in (True, False):
        with tempfile.TemporaryDirectory() as directory:
            crl = os.path.join(directory, "crl.pem")
            shutil.copy(certificate("empty-crl.pem"), crl)
            with running(*AUTHORITY, "--tls-crl", crl, transports=["tls"]) as broker:
                publish(broker.addresses[0], "v5", "certificates", "not yet revoked", *identity("revoked"), qos=1)
                shutil.copy(certificate("crl.pem"), crl + ".new")
                os.replace(crl + ".new", crl)
                if hang_up:
                    broker.hang_up()
                wait_until(lambda: not attempt(broker.addresses[0], *identity("revoked")), "refusal of what is revoked")
                publish(broker.addresses[0], "v5", "certificates", "not revoked", *identity("client"), qos=1)


# Who is called how may write where.
ACCESS = "user client\ntopic readwrite users/cn\nuser client.test\ntopic readwrite users/san\n"


def user_of_the_certificate(name, other):
    """The certificate says who the user is, and not what the client calls itself."""

    def case():
        with tempfile.NamedTemporaryFile("w", suffix=".acl") as file:
            file.write(ACCESS)
            file.flush()
            options = [*AUTHORITY, "--tls-username", name, "--acl-file", file.name]
            with running(*options, transports=["tls"]) as broker:
                address, shown = broker.addresses[0], [*identity("client"), "-u", "somebody"]
                with Sub(address, "v5", "users/#", *shown) as sub:
                    attempt(address, *shown, topic=f"users/{other}")
                    publish(address, "v5", f"users/{name}", "mine", *shown, qos=1)
                    sub.expect_message(f"users/{name}", "mine", 1)

    return case


def suites():
    required = Suite("mosquitto, certificates required", *AUTHORITY, *REVOKED, transports=["tls"])
    required.add("client takes part, the others do not", case_of(["client"], [None, *BAD]))
    yield required
    trusting = Suite("mosquitto, certificates required, none revoked", *AUTHORITY, transports=["tls"])
    trusting.add("both of the authority take part", case_of(["client", "revoked"], [None, *BAD[:3]]))
    yield trusting
    optional = ["--tls-client-auth", "optional", *AUTHORITY, *REVOKED]
    optional = Suite("mosquitto, certificates optional", *optional, transports=["tls"])
    optional.add("no certificate is good, and a bad one is not", case_of([None, "client"], BAD))
    yield optional
    none = Suite("mosquitto, no certificates", transports=["tls"])
    none.add("nobody is asked for one", case_of([None, "client", *BAD], []))
    none.add("a client that does not trust the broker", server_of_another_authority)
    yield none
    alone = Suite("mosquitto, certificates", transports=())
    alone.add("revoked while the broker runs", revoked_while_running)
    alone.add("the common name is the user", user_of_the_certificate("cn", "san"))
    alone.add("the alternative name is the user", user_of_the_certificate("san", "cn"))
    yield alone


if __name__ == "__main__":
    main(list(suites()))
