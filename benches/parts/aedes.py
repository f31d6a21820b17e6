"""Aedes, installed with npm into the cache of the scripts."""

import subprocess
import sys

from .processes import CACHE, ROOT, output, which
from .redis_server import program as redis_server

# Their versions are in the output.
PACKAGES = ("aedes@1.2.0", "aedes-persistence-redis@11.2.2", "mqemitter-redis@7.2.1")

WITH_REDIS = """\
const { Aedes } = require('aedes');
const net = require('net');
const [port, redis] = process.argv.slice(1).map(Number);
const options = { port: redis, host: '127.0.0.1', maxSessionDelivery: 10000000 };
const persistence = require('aedes-persistence-redis')(options);
const mq = require('mqemitter-redis')({ port: redis, host: '127.0.0.1' });
Aedes.createBroker({ persistence, mq }).then((aedes) => {
  const server = net.createServer({ noDelay: true }, aedes.handle);
  server.listen({ port, host: '127.0.0.1', backlog: 4096 });
});
"""


def install(packages):
    """Unless it is there; what is missing, if it can't be."""
    name = packages[-1].partition("@")[0]
    if not which("node") or not which("npm"):
        return "aedes is missing: it needs Node.js 20 or later with npm (apt-get install nodejs npm)"
    if (CACHE / "node_modules" / name).is_dir():
        return None
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", *packages]
    print(f"installing aedes into {CACHE.relative_to(ROOT)}", file=sys.stderr)
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        return f"aedes is missing: npm could not install {packages[0]}"
    return None


class WithRedis:
    """How to start it with its state in Redis, and its messages by way of it."""

    # Where its script looks for modules.
    home = CACHE

    def __init__(self):
        self.missing = install(PACKAGES) if redis_server() else "aedes is left out: redis-server is missing"

    def command(self, port, redis_port):
        return [which("node"), "-e", WITH_REDIS, str(port), str(redis_port)]

    def version(self):
        return ", ".join([*PACKAGES, "node " + output([which("node"), "--version"])])
