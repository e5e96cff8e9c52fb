"""Tokens that must be refused, whoever verifies them; each is made from what an attacker may know."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

FOREIGN_KEY = generate_private_key(public_exponent=65537, key_size=2048)
Claims = dict[str, Any]
Forge = Callable[[RSAPrivateKey, str, Claims], str]
HEADERS_WITH_KEYS: dict[str, Any] = {
    "jku": "https://attacker.example/jwks.json",
    "x5u": "https://attacker.example/key.pem",
    "jwk": jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN_KEY.public_key(), as_dict=True),
    "x5c": ["MIIC"],
}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(key: RSAPrivateKey, claims: Claims, header: dict[str, Any]) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, "RS256", header)


def alg_none(_: RSAPrivateKey, kid: str, claims: Claims) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid})}.{part(claims)}."


def no_signature(key: RSAPrivateKey, kid: str, claims: Claims) -> str:
    return signed(key, claims, {"kid": kid}).rpartition(".")[0] + "."


def hs256_with_the_public_key(key: RSAPrivateKey, kid: str, claims: Claims) -> str:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, text.encode(), "sha256")).rstrip(b"=").decode()
    return f"{text}.{mac}"


def tampered_payload(key: RSAPrivateKey, kid: str, claims: Claims) -> str:
    header, _, signature = signed(key, claims, {"kid": kid}).split(".")
    return f"{header}.{part({**claims, 'sub': 'root', 'scopes': ['*']})}.{signature}"


def with_claims(**changes: Any) -> Forge:
    """Our own key signed other claims; `...` leaves one out."""

    def forge(key: RSAPrivateKey, kid: str, claims: Claims) -> str:
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
        return signed(key, changed, {"kid": kid})

    return forge


def moved(**seconds: float) -> Forge:
    """Our own key signed other times, told from now."""

    def forge(key: RSAPrivateKey, kid: str, claims: Claims) -> str:
        times = {name: claims["iat"] + shift for name, shift in seconds.items()}
        return signed(key, {**claims, **times}, {"kid": kid})

    return forge


def foreign(header: dict[str, Any]) -> Forge:
    """A foreign key signed it, under our key's name or another one."""
    return lambda _, kid, claims: signed(FOREIGN_KEY, claims, {"kid": kid, **header})


def ours_with(header: dict[str, Any]) -> Forge:
    return lambda key, kid, claims: signed(key, claims, {"kid": kid, **header})


FORGERIES: dict[str, Forge] = {
    "alg none": alg_none,
    "without its signature": no_signature,
    "HS256 with the public key": hs256_with_the_public_key,
    "tampered payload": tampered_payload,
    "wrong iss": with_claims(iss="https://attacker.example"),
    "iss is a list": with_claims(iss=["dominus"]),
    "no iss": with_claims(iss=...),
    "wrong aud": with_claims(aud="gateway"),
    "aud is null": with_claims(aud=None),
    "wrong use": with_claims(use="session"),
    "unknown kid": foreign({"kid": "another"}),
    "foreign key under our kid": foreign({}),
    "expired": moved(iat=-1000, exp=-100),
    "no exp": with_claims(exp=...),
    "exp is text": with_claims(exp="2999-01-01"),
    "not yet valid (nbf)": moved(nbf=300),
    "not yet valid (iat)": moved(iat=300, exp=900),
    **{f"{name} in the header, foreign key": foreign({name: value}) for name, value in HEADERS_WITH_KEYS.items()},
    **{f"{name} in the header, our key": ours_with({name: value}) for name, value in HEADERS_WITH_KEYS.items()},
}  # fmt: skip
