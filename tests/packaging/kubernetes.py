"""The manifests of docs/kubernetes: by the schemas of Kubernetes, and by what they say to real processes."""

import contextlib
import glob
import importlib.util
import json
import os
import re
import tempfile

import fastjsonschema
from ruamel.yaml import YAML

from cluster import ask, blocks, redis
from container import ROOT, free_port, read, run, succeed

from harness import Child, Suite, certificate, expect, expect_that, wait_until

DIRECTORY = os.path.join(ROOT, "docs", "kubernetes")
# The first one that the guide promises, and the last one that there are schemas of.
VERSIONS = ("1.30", "1.37")


def manifests():
    """All of them, by kind and name."""
    yaml = YAML(typ="safe", pure=True)
    found = {}
    for path in sorted(glob.glob(os.path.join(DIRECTORY, "*.yaml"))):
        with open(path, encoding="utf-8") as file:
            for manifest in yaml.load_all(file):
                found[manifest["kind"], manifest["metadata"]["name"]] = manifest
    expect_that(len(found) >= 7, f"{sorted(found)}")
    return found


# --- By their schemas ------------------------------------------------------------------------------------------------


def check(manifest, version):
    """Raises if the schemas of this version do not know a field, or want another value. Their package is only looked into."""
    package = importlib.util.find_spec("kubernetes_validate").submodule_search_locations[0]
    schemas = os.path.join(package, "kubernetes-json-schema", f"v{version}.0-local-strict")
    group, _, api = manifest["apiVersion"].rpartition("/")
    name = "-".join(filter(None, (manifest["kind"].lower(), group.split(".")[0], api)))
    with open(os.path.join(schemas, f"{name}.json"), encoding="utf-8") as file:
        schema = json.load(file)
    with open(os.path.join(schemas, "_definitions.json"), encoding="utf-8") as file:
        definitions = json.load(file)
    options = {"handlers": {"https": lambda _: definitions}, "use_formats": False, "detailed_exceptions": False}
    fastjsonschema.compile(schema, **options)(manifest)


def schemas():
    """Each manifest has the fields of its kind and no others; one with a wrong name or value is told apart."""
    for version in VERSIONS:
        for manifest in manifests().values():
            check(manifest, version)
        for field, value in (("replica", 3), ("replicas", "three")):
            wrong = manifests()["Deployment", "broker"]
            wrong["spec"][field] = value
            with contextlib.suppress(fastjsonschema.JsonSchemaException):
                check(wrong, version)
                expect_that(False, f"{version}: {field}: {value!r} is taken")


# --- Whether they fit together ---------------------------------------------------------------------------------------


def pods(found):
    """The templates of pods, and what makes them."""
    return {key: manifest["spec"]["template"] for key, manifest in found.items() if key[0] in ("Deployment", "StatefulSet")}


def selected(found, labels):
    """The templates that these labels select."""
    return [pod for pod in pods(found).values() if labels.items() <= pod["metadata"]["labels"].items()]


def secrets_of_the_guide():
    """Those that it makes, with the keys of each."""
    made = {}
    for kind, name, rest in re.findall(r"kubectl create secret (\w+) (\S+) (.*)", read("docs/kubernetes.md")):
        made[name] = {"tls.crt", "tls.key"} if kind == "tls" else set(re.findall(r"--from-(?:file|literal) \"?([\w.]+)", rest))
    return made


def expect_volumes_to_fit(found, spec):
    """Each mount has its volume, each volume is mounted, and what it is filled from is there."""
    claims = [claim["metadata"]["name"] for claim in found["StatefulSet", "redis"]["spec"]["volumeClaimTemplates"]]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
    expect(mounted - set(claims), set(volumes), "volumes")
    for volume in volumes.values():
        if "secret" in volume:
            expect_that(volume["secret"]["secretName"] in secrets_of_the_guide(), f"{volume} is made by nobody")
        else:
            expect_that(("ConfigMap", volume["configMap"]["name"]) in found, f"{volume} is made by nobody")


def references():
    """Labels, ports, volumes and Secrets that one names are those of another."""
    found = manifests()
    for (kind, name), manifest in found.items():
        spec = manifest.get("spec", {})
        labels = {"Service": lambda: spec["selector"], "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"]}
        of_others = lambda: spec["selector"]["matchLabels"]  # noqa: E731
        if kind != "ConfigMap":
            expect(len(selected(found, labels.get(kind, of_others)())), 1, f"pods of {kind} {name}")
        if kind == "Service":
            pod, = selected(found, spec["selector"])
            ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
            expect_that({port["targetPort"] for port in spec["ports"]} <= ports, f"{name} leads to other ports than {ports}")
    policy = found["NetworkPolicy", "redis"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    expect(selected(found, policy), [pods(found)["Deployment", "broker"]], "who comes to Redis")
    for pod in pods(found).values():
        expect_volumes_to_fit(found, pod["spec"])
    container = pods(found)["Deployment", "broker"]["spec"]["containers"][0]
    secret = container["env"][1]["valueFrom"]["secretKeyRef"]
    expect_that(secret["key"] in secrets_of_the_guide()[secret["name"]], f"{secret} is made by nobody")


# --- With real processes ---------------------------------------------------------------------------------------------


def commands_of_the_guide(directory, port):
    """Runs the part of the guide that makes files and URLs, with a kubectl that writes down what it was told."""
    script, = (block for block in blocks(read("docs/kubernetes.md"), "sh") if "users.acl" in block)
    # There is no one to type a password here.
    script = script.replace("broker passwd add users ann", "echo secret | broker passwd add users ann --stdin")
    script = script.replace("@redis:6379", f"@127.0.0.1:{port}")
    with open(os.path.join(directory, "kubectl"), "w", encoding="ascii") as file:
        file.write(f'#!/bin/sh\necho "$@" >> "{directory}/told"\n')
    os.chmod(file.name, 0o755)
    os.symlink(os.environ["BROKER_BIN"], os.path.join(directory, "broker"))
    succeed(["bash", "-e", "-c", script], cwd=directory, env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"})
    return re.search(r"--from-literal url=(\S+)", read(os.path.join(directory, "told")))[1]


def local_configuration(directory, tls, http):
    """The configuration of the ConfigMap with the places of this machine."""
    text = manifests()["ConfigMap", "broker"]["data"]["broker.toml"]
    for place, here in (
        ("/etc/broker/tls/tls.crt", certificate("server.pem")),
        ("/etc/broker/tls/tls.key", certificate("server.key")),
        ("/etc/broker/users/users", os.path.join(directory, "users")),
        ("http-port = 9883", f"http-port = {http}"),
        ('http-host = "0.0.0.0"', 'http-host = "127.0.0.1"'),
    ):
        expect_that(place in text, f"{place} is not in the configuration")
        text = text.replace(place, here)
    path = os.path.join(directory, "broker.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{text}\nhost = "127.0.0.1"\ntls-port = {tls}\n')
    return path


def expect_probe(container, name, ports):
    """A probe of a container says yes."""
    probe = container[name]
    if "exec" in probe:
        command = [part.replace("redis-cli", f"redis-cli -p {ports['redis']}") for part in probe["exec"]["command"]]
        succeed(command)
    elif "httpGet" in probe:
        answer = wait_until(lambda: ask(ports[probe["httpGet"]["port"]], probe["httpGet"]["path"]), f"{name} is answered")
        expect(answer[0], 200, f"{name}: status")


def with_real_processes():
    """Redis with the arguments and users that it gets there, a node with its configuration and Secrets, and their probes."""
    found = manifests()
    server, = pods(found)["StatefulSet", "redis"]["spec"]["containers"]
    node, = pods(found)["Deployment", "broker"]["spec"]["containers"]
    tls, http = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        # Its users are made with the URL, which has the port.
        acl = os.path.join(directory, "users.acl")
        os.mkdir(data := os.path.join(directory, "data"))
        open(acl, "w", encoding="ascii").close()
        arguments = [acl if argument == "/etc/redis/users.acl" else argument for argument in server["args"]]
        expect_that(acl in arguments, f"{server['args']}")
        port = stack.enter_context(redis(arguments, directory=data))
        url = commands_of_the_guide(directory, port)
        succeed(["redis-cli", "-p", str(port), "acl", "load"])
        ports = {"redis": port, "http": http}
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            expect_probe(server, name, ports)
        code, said = run(["redis-cli", "-p", str(port), "info"])
        expect_that("NOPERM" in said, f"everybody may do more than ask: {code}: {said}")
        configuration = local_configuration(directory, tls, http)
        env = {"PATH": os.environ["PATH"], node["env"][1]["name"]: url, "BROKER_CONFIG": configuration}
        expect(run([os.environ["BROKER_BIN"], "config", "check", configuration], env=env), (0, ""), "the configuration")
        child = stack.enter_context(Child([os.environ["BROKER_BIN"]], env=env))
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            expect_probe(node, name, ports)
        client = ["-L", f"mqtts://127.0.0.1:{tls}", "--cafile", certificate("ca.pem"), "-u", "ann", "-P", "secret", "-t", "a"]
        succeed([os.environ["BROKER_BIN"], "pub", *client, "-q", "1", "-r", "-m", "kept"])
        expect(succeed([os.environ["BROKER_BIN"], "sub", *client, "-C", "1"]), "kept\n", "subscribing")
        grace = pods(found)["Deployment", "broker"]["spec"]["terminationGracePeriodSeconds"]
        expect(child.terminate(deadline=grace - node["lifecycle"]["preStop"]["sleep"]["seconds"]), 0, "exit code after SIGTERM")


def suite():
    """All of it."""
    cases = Suite("kubernetes", transports=())
    cases.add("manifests are what their schemas say", schemas)
    cases.add("manifests fit together", references)
    cases.add("what is in them works", with_real_processes)
    return cases
