#!/usr/bin/env python3
"""Makes keys, and tokens signed with them by PyJWT, for tests/jwt.rs. They are kept, and the private keys are not: the
tests need no Python.

Needs pyjwt[crypto] 2.
"""

import json
import pathlib

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

HERE = pathlib.Path(__file__).parent
# The year 2100.
CLAIMS = {"sub": "ann", "exp": 4102444800, "iat": 1700000000, "acl": {"all": ["of/%u"]}}


def main():
    keys = {
        "RS256": (rsa.generate_private_key(65537, 2048), RSAAlgorithm),
        "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
        "ES384": (ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
        "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
    }
    tokens, jwks = {}, []
    for name, (key, algorithm) in keys.items():
        public = key.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (HERE / f"{name}.pem").write_bytes(pem)
        jwk = json.loads(algorithm.to_jwk(public))
        jwks.append({**jwk, "kid": name, "alg": name, "use": "sig"})
        tokens[name] = jwt.encode(CLAIMS, key, name, headers={"kid": name})
        if name == "RS256":
            tokens["PS512"] = jwt.encode(CLAIMS, key, "PS512")
    # What must not be accepted.
    tokens["none"] = jwt.encode(CLAIMS, None, "none")
    (HERE / "jwks.json").write_text(json.dumps({"keys": jwks}, indent=1) + "\n")
    (HERE / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")


main()
