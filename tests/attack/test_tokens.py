"""Attacks on JWTs, each by its name, against the built authorizer: RFC 8725, jwt_tool's modes and playbook, and what parsers differ on.

Every token here would pass but for the one thing that is wrong with it; the reason in the log says that it was that thing."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .conftest import Attacked
from .forge import AUDIENCE, Key, b64, claims, unb64, with_hmac

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture
def good(attacked: Attacked) -> dict[str, Any]:
    return claims(attacked.issuer)


# --------------------------------------------------------------------------------------------------- signature and algorithm


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "none ", " none", "", "null"])
@pytest.mark.parametrize("form", ["with a dot at the end", "without it", "with a signature"])
def test_alg_none(attacked, refused, good, alg, form):
    start = f"{b64({'alg': alg, 'typ': 'JWT', 'kid': 'rsa'})}.{b64(good)}"
    signature = b64(attacked.keys["rsa"].sign(start.encode()))
    token = {"with a dot at the end": f"{start}.", "without it": start, "with a signature": f"{start}.{signature}"}[form]
    refused(token, "structure" if form == "without it" else "signature" if form.startswith("with a dot") else "algorithm")


@pytest.mark.parametrize("alg", [None, 0, True, [], {}, ["RS256"], "rs256", "RS1", "HS256", "RSA-OAEP", "dir", "A256GCM"], ids=str)
def test_alg_that_is_no_allowed_name(attacked, refused, good, alg):
    refused(attacked.keys["rsa"].token(good, alg=alg), "header", "algorithm")


def test_alg_missing(attacked, refused, good):
    refused(attacked.keys["rsa"].token(good, alg=...), "algorithm")


def test_null_signature(attacked, refused, good):
    start = attacked.keys["rsa"].token(good).rsplit(".", 1)[0]
    refused(f"{start}.", "signature")
    for nothing in (b"\0", b"\0" * 256, b"null"):
        refused(f"{start}.{b64(nothing)}", "signature")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", [b"", b"\0", b"secret", b"null"], ids=repr)
def test_blank_hmac_secret(refused, good, alg, secret):
    refused(with_hmac(secret, alg, good, kid="rsa"), "algorithm")
    refused(with_hmac(secret, alg, good), "algorithm")


def forms_of_public_keys(attacked: Attacked):
    formats, encodings = serialization.PublicFormat, serialization.Encoding
    for kid in ("rsa", "ec", "p384"):
        public = attacked.keys[kid].private.public_key()
        for format in (formats.SubjectPublicKeyInfo, formats.PKCS1) if kid == "rsa" else (formats.SubjectPublicKeyInfo,):
            for encoding in (encodings.PEM, encodings.DER):
                yield kid, public.public_bytes(encoding, format)
        if kid != "rsa":
            yield kid, public.public_bytes(encodings.X962, formats.UncompressedPoint)
        jwk = attacked.keys[kid].jwk
        yield kid, json.dumps(jwk).encode()
        yield kid, json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()
        yield kid, unb64(jwk.get("n") or jwk["x"])


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_hmac_with_the_bytes_of_a_public_key(attacked, refused, good, alg):
    forms = list(forms_of_public_keys(attacked))
    assert len(forms) == 19
    for kid, form in forms:
        for secret in (form, form.rstrip(b"\n"), form + b"\n", form + b"\r\n"):
            refused(with_hmac(secret, alg, good, kid=kid), "algorithm")


def test_an_hmac_key_that_the_issuer_publishes(attacked, refused):
    secret = b"a secret that everybody can read."
    issuer = attacked.issuers.publish("oct", {"kty": "oct", "kid": "k", "alg": "HS256", "k": b64(secret)})
    agent = attacked.put("oct", issuer)
    refused(with_hmac(secret, "HS256", claims(issuer), kid="k"), "algorithm", agent=agent)


def test_psychic_signatures(attacked, refused, good):
    start = attacked.keys["ec"].token(good).rsplit(".", 1)[0]
    n = P256_ORDER
    for r, s in ((0, 0), (0, 1), (1, 0), (n, 1), (1, n), (n, n), (n + 1, 1), (1, n + 1), (2**256 - 1, 2**256 - 1)):
        refused(f"{start}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}", "signature")
    for length in (0, 64, 65, 96, 128):
        refused(f"{start}.{b64(bytes(length))}", "signature")


def test_der_in_place_of_p1363(attacked, refused, good):
    header, payload, signature = attacked.keys["ec"].token(good).split(".")
    raw = unb64(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    refused(f"{header}.{payload}.{b64(encode_dss_signature(r, s))}", "signature")
    refused(f"{header}.{payload}.{b64(bytes(2) + raw[:32] + bytes(2) + raw[32:])}", "signature")


def test_signature_of_another_key_of_the_same_name(refused, good):
    for alg in ("RS256", "ES256"):
        refused(Key.make({"RS256": "rsa", "ES256": "ec"}[alg], alg).token(good), "signature")


def test_claims_under_a_signature_of_others(attacked, refused, good):
    one, other = attacked.keys["rsa"].token(good).split("."), attacked.keys["rsa"].token(good | {"sub": "admin"}).split(".")
    refused(".".join([one[0], other[1], one[2]]), "signature")


@pytest.mark.parametrize("kid, alg", [
    ("ec", "ES384"), ("p384", "ES256"), ("ec", "RS256"), ("rsa", "ES256"), ("rsa", "PS256"), ("pss", "RS256"), ("rsa", "RS512"),
    ("ed", "ES256"), ("ec", "EdDSA"),
])  # fmt: skip
def test_wrong_curve_or_kind_of_key_for_the_alg(attacked, refused, good, kid, alg):
    refused(attacked.keys[kid].token(good, alg=alg), "key_algorithm")
    # Without the name of a key, one that fits the algorithm is found, and its signature is not this.
    refused(attacked.keys[kid].token(good, alg=alg, kid=...), "signature", "unknown_key", "unavailable")


@pytest.mark.parametrize("alg", ["ES256K", "ES512", "Ed448"])
@pytest.mark.parametrize("said", ["its own", "EdDSA", "ES256"])
def test_es256k_ed448_and_p521_keys(attacked, refused, alg, said):
    key = Key.make("k", alg)
    jwk = key.jwk if said == "its own" else key.jwk | {"alg": said}
    name = f"{alg}-{said}".replace(" ", "-").lower()
    issuer = attacked.issuers.publish(name, jwk)
    agent = attacked.put(name, issuer)
    claimed = {} if said == "its own" else {"alg": said}
    refused(key.token(claims(issuer), **claimed), "algorithm", "unknown_key", "unavailable", agent=agent)


def test_a_curve_that_its_key_only_claims(attacked, refused):
    key = Key.make("k", "ES256K")
    issuer = attacked.issuers.publish("claimed-curve", key.jwk | {"crv": "P-256", "alg": "ES256"})
    agent = attacked.put("claimed-curve", issuer)
    refused(key.token(claims(issuer), alg="ES256"), "unknown_key", "unavailable", agent=agent)


@pytest.mark.parametrize("bits", [1024, 2046])
def test_rsa_below_2048_bits(attacked, refused, bits):
    key = Key.make("k", "RS256", bits=bits)
    issuer = attacked.issuers.publish(f"rsa-{bits}", key.jwk)
    refused(key.token(claims(issuer)), "unknown_key", "unavailable", agent=attacked.put(f"rsa-{bits}", issuer))


def test_rsa_with_exponent_1(attacked, refused):
    """With e = 1 the padded digest is its own signature."""
    key = Key.make("k", "RS256")
    issuer = attacked.issuers.publish("e1", key.jwk | {"e": b64(b"\1")})
    agent = attacked.put("e1", issuer)
    start = f"{b64({'alg': 'RS256', 'kid': 'k'})}.{b64(claims(issuer))}"
    hasher = hashes.Hash(hashes.SHA256())
    hasher.update(start.encode())
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hasher.finalize()
    padded = b"\0\1" + b"\xff" * (256 - len(digest) - 3) + b"\0" + digest
    refused(f"{start}.{b64(padded)}", "unknown_key", "unavailable", agent=agent)


def test_a_private_key_that_its_issuer_publishes(attacked, refused):
    key = Key.make("k", "RS256")
    issuer = attacked.issuers.publish("private", key.jwk | {"d": b64(b"anything"), "p": b64(b"x")})
    refused(key.token(claims(issuer)), "unknown_key", "unavailable", agent=attacked.put("private", issuer))


def test_a_key_for_encryption(attacked, refused):
    key = Key.make("k", "RS256", use="enc")
    issuer = attacked.issuers.publish("enc", key.jwk)
    refused(key.token(claims(issuer)), "unknown_key", "unavailable", agent=attacked.put("enc", issuer))


# ------------------------------------------------------------------------------------------------ keys that the token brings


def test_embedded_jwk(attacked, refused, good):
    own = Key.make("own", "RS256")
    refused(own.token(good, jwk=own.jwk), "unknown_key", "unavailable")
    refused(own.token(good, jwk=own.jwk, kid="rsa"), "signature")
    refused(own.token(good, jwk=own.jwk, kid=...), "signature")


@pytest.mark.parametrize("member", ["jku", "x5u"])
def test_jku_and_x5u(attacked, refused, good, member):
    """The autouse fixture holds that nothing was fetched."""
    own = Key.make("rsa", "RS256")
    attacked.issuers.pages["/evil"] = {"keys": [own.jwk]}
    here, issuer = attacked.issuers.address, attacked.issuer
    for url in (
        f"http://{here}/evil", f"{issuer}@{here}/evil", f"{issuer}/keys@{here}/evil", f"{issuer}#@{here}/evil",
        f"http://{here}/evil#{issuer}/keys", f"//{here}/evil", f"{issuer}/../evil", f"{issuer}/%2e%2e/evil",
        f"{issuer}/redirect?to=http://{here}/evil", f"http://127.0.0.1.evil.example/{here}", "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data", "\\\\evil\\share", "",
    ):  # fmt: skip
        refused(own.token(good, **{member: url}), "signature")
    assert attacked.ask(attacked.keys["rsa"].token(good, **{member: f"http://{here}/evil"})).is_allowed, "it is not even read"


def test_x5c_self_signed(attacked, refused, good):
    own = Key.make("rsa", "RS256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp.example")])
    moment = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(own.private.public_key())
        .serial_number(1).not_valid_before(moment).not_valid_after(moment + timedelta(days=1))
        .sign(own.private, hashes.SHA256())
    )  # fmt: skip
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    thumb = b64(certificate.fingerprint(hashes.SHA256()))
    refused(own.token(good, x5c=chain, **{"x5t#S256": thumb}), "signature")


@pytest.mark.parametrize("kid", [
    "../../../../dev/null", "/dev/null", "..\\..\\windows\\win.ini", "file:///etc/passwd", "rsa' OR '1'='1",
    "x' UNION SELECT 'key' -- ", "rsa; sleep 10", "| whoami", "$(id)", "`id`", "%00", "rsa ", " rsa", "RSA", "rsa%20",
    "{{7*7}}", "http://evil.example/keys", "k" * 256,
])  # fmt: skip
def test_kid_that_reaches_for_something_else(attacked, refused, good, kid):
    refused(attacked.keys["rsa"].token(good, kid=kid), "unknown_key", "unavailable")
    refused(with_hmac(b"", "HS256", good, kid=kid), "algorithm")


@pytest.mark.parametrize("kid", [
    None, 0, 1.5, True, [], ["rsa"], {}, {"kid": "rsa"}, "rsa\n", "rsa\0", "rsa\r\n{\"message\":\"authorized\"}", "ключ", "k" * 257, "",
], ids=lambda kid: repr(kid)[:20])  # fmt: skip
def test_kid_that_is_no_name(attacked, refused, good, kid):
    refused(attacked.keys["rsa"].token(good, kid=kid), "header", "kid", "unknown_key", "unavailable")


def test_kid_of_a_megabyte(attacked, refused, good):
    refused(attacked.keys["rsa"].token(good, kid="k" * 1_000_000), "too_large")


def test_kid_with_a_newline_writes_no_line_into_the_log(attacked, refused, good):
    line = json.dumps({"message": "authorized", "outcome": "allowed", "reason": "forged-line"})
    refused(attacked.keys["rsa"].token(good, kid=f"rsa\n{line}\n"), "kid")
    refused(attacked.keys["rsa"].token(good | {"sub": f"ada\n{line}\n", "exp": 1}), "expired")
    assert "forged-line" not in attacked.instance.log.read_text(errors="replace")


# ------------------------------------------------------------------------------------------------------------------ the header


def test_b64_false(attacked, refused, good):
    refused(attacked.keys["rsa"].token(good, b64=False), "critical")
    refused(attacked.keys["rsa"].token(good, b64=False, crit=["b64"]), "critical")
    refused(attacked.keys["rsa"].token(good, b64=True), "critical")


@pytest.mark.parametrize("crit", [["exp"], ["b64"], ["unknown"], [], "exp", None, [1], ["alg"], ["kid", "typ"]], ids=str)
def test_crit(attacked, refused, good, crit):
    refused(attacked.keys["rsa"].token(good, crit=crit), "critical")


def test_zip(attacked, refused, good):
    for value in ("DEF", "", None, "GZIP"):
        refused(attacked.keys["rsa"].token(good, zip=value), "compressed")


@pytest.mark.parametrize("header", [
    '{"alg":"none","alg":"RS256","kid":"rsa"}', '{"alg":"RS256","alg":"none","kid":"rsa"}',
    '{"alg":"RS256","kid":"rsa","kid":"other"}', '{"alg":"RS256","kid":"rsa","\\u006bid":"other"}',
    '{"alg":"RS256","kid":"rsa","typ":"JWT","typ":"JWT"}', '{"alg":"RS256","kid":"rsa","x":1,"x":2}',
])  # fmt: skip
def test_duplicate_header_members(attacked, refused, good, header):
    refused(attacked.keys["rsa"].token(good, header=header), "duplicate_member")


@pytest.mark.parametrize("more", [
    '"sub":"admin"', '"exp":9999999999', '"aud":"x"', '"iss":"https://evil.example"', '"\\u0073ub":"admin"', '"\\u0069ss":"x"',
    '"nested":{},"nested":1',
])  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_duplicate_claims_whichever_is_first(attacked, refused, good, more, first):
    inner = json.dumps(good)[1:-1]
    payload = f"{{{more},{inner}}}" if first else f"{{{inner},{more}}}"
    refused(attacked.keys["rsa"].token(payload), "duplicate_member")


def test_unicode_escaped_claim_names_mean_the_claim(attacked, refused, good):
    escaped = json.dumps(good | {"exp": 1}).replace('"exp"', '"\\u0065xp"')
    refused(attacked.keys["rsa"].token(escaped), "expired")
    escaped = json.dumps(good | {"aud": "other"}).replace('"aud"', '"a\\u0075d"')
    refused(attacked.keys["rsa"].token(escaped), "audience")
    assert attacked.ask(attacked.keys["rsa"].token(json.dumps(good).replace('"aud"', '"a\\u0075d"'))).is_allowed


@pytest.mark.parametrize("name", ["Exp", "EXP", "exp ", "ехр"])
def test_claim_names_that_look_alike_are_others(attacked, refused, good, name):
    refused(attacked.keys["rsa"].token({name if key == "exp" else key: value for key, value in good.items()}), "claims")


# ------------------------------------------------------------------------------------------------------------------ the claims


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [
    '"9999999999"', "NaN", "Infinity", "-Infinity", "1e400", "null", "true", "[]", "{}", '""', "[9999999999]",
    "99999999999999999999999999", "1e308", "0x7fffffff", "-1", "-9999999999", "1.5.5",
])  # fmt: skip
def test_times_that_are_odd(attacked, refused, good, name, value):
    payload = json.dumps({key: known for key, known in good.items() if key != name})[:-1] + f',"{name}":{value}}}'
    # Of a time long past, `exp` is over; `nbf` and `iat` are no reason to refuse.
    if value in ("-1", "-9999999999") and name != "exp":
        assert attacked.ask(attacked.keys["rsa"].token(payload)).reason in ("", "claims")
    else:
        refused(attacked.keys["rsa"].token(payload), "claims", "expired", "not_yet_valid", "issued_in_the_future", "not_yet", "future")


def test_times_as_floats_mean_their_second(attacked, refused, good):
    now = time.time()
    assert attacked.ask(attacked.keys["rsa"].token(good | {"exp": now + 100.5})).is_allowed
    refused(attacked.keys["rsa"].token(good | {"exp": now - 100.5}), "expired")


def test_exp_missing(attacked, refused):
    refused(attacked.keys["rsa"].token(claims(attacked.issuer, exp=...)), "claims")


@pytest.mark.parametrize("seconds", [31, 3600, 10**9])
def test_expired_and_not_yet_valid(attacked, refused, good, seconds):
    now = int(time.time())
    refused(attacked.keys["rsa"].token(good | {"exp": now - seconds}), "expired")
    refused(attacked.keys["rsa"].token(good | {"nbf": now + seconds + 2}), "not_yet_valid", "not_yet")


@pytest.mark.parametrize("aud", [
    "other", ["other"], [], {}, {"aud": AUDIENCE}, None, True, 7, [AUDIENCE, 7], [[AUDIENCE]], AUDIENCE.upper(), AUDIENCE + "/",
    AUDIENCE[:-1], f" {AUDIENCE}", f"{AUDIENCE},other", "*", "",
], ids=str)  # fmt: skip
def test_aud_of_another_or_of_another_form(attacked, refused, good, aud):
    refused(attacked.keys["rsa"].token(good | {"aud": aud}), "audience", "claims")


def test_aud_missing(attacked, refused):
    refused(attacked.keys["rsa"].token(claims(attacked.issuer, aud=...)), "audience")


def test_aud_as_a_list_that_has_it(attacked, good):
    assert attacked.ask(attacked.keys["rsa"].token(good | {"aud": ["other", AUDIENCE]})).is_allowed


def test_iss_in_other_forms(attacked, refused, good):
    issuer = attacked.issuer
    for other in (
        f"{issuer}/", f"{issuer}//", issuer.upper(), issuer.replace("http", "HTTP"), issuer.replace("127.0.0.1", "localhost"),
        issuer.replace("127.0.0.1", "127.1"), issuer.replace("main", "m%61in"), issuer.replace("main", "mаin"), f"{issuer} ",
        f" {issuer}", f"{issuer}#", f"{issuer}?", f"{issuer}/../main", issuer.replace("//", "//user@"), [issuer], [], {}, None, 7,
        {"iss": issuer}, "", "https://xn--80ak6aa92e.com", "https://аррӏе.com", f"{issuer}\0",
    ):  # fmt: skip
        # One with a slash may be the issuer's own spelling (Auth0), so its metadata are asked: they name another.
        reasons = ("unavailable",) if other == f"{issuer}/" else ("issuer", "claims")
        refused(attacked.keys["rsa"].token(good | {"iss": other}), *reasons)
    refused(attacked.keys["rsa"].token(claims(issuer, iss=...)), "claims")


@pytest.mark.parametrize("sub", ["", None, 7, True, [], ["ada"], {}, "x" * 2000], ids=lambda sub: repr(sub)[:12])
def test_sub_that_names_nobody(attacked, refused, good, sub):
    refused(attacked.keys["rsa"].token(good | {"sub": sub}), "subject", "claims")


# ---------------------------------------------------------------------------------------------------------------- the structure


def test_nested_jwt(attacked, refused, good):
    inner = attacked.good()
    refused(attacked.keys["rsa"].token(inner, cty="JWT"), "nested")
    refused(attacked.keys["rsa"].token(inner), "claims")
    refused(attacked.keys["rsa"].token(json.dumps(inner)), "claims")
    refused(attacked.keys["rsa"].token(good, cty="application/jwt"), "nested")


def test_a_jwe_on_the_path_of_a_jws(attacked, refused, good):
    header = b64({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "rsa"})
    refused(f"{header}.{b64('key')}.{b64('iv')}.{b64(good)}.{b64('tag')}", "structure")
    refused(f"{header}.{b64(good)}.{b64('tag')}", "algorithm")


@pytest.mark.parametrize("parts", [1, 2, 4, 5, 6, 12])
def test_another_number_of_parts(attacked, refused, parts):
    token = attacked.good().split(".")
    refused(".".join((token * 40)[:parts]), "structure")


def test_dots_too_many(attacked, refused):
    token = attacked.good()
    for form in (f".{token}", f"{token}.", token.replace(".", "..", 1), "...", "."):
        refused(form, "structure")
    refused("..", "signature")


def test_json_serialisation(attacked, refused):
    protected, payload, signature = attacked.good().split(".")
    flat = {"protected": protected, "payload": payload, "signature": signature}
    for form in (flat, {"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}):
        refused(json.dumps(form, separators=(";", ":")).replace(" ", ""), "structure", "encoding")
        refused(json.dumps(form), "no_bearer_token")


def test_base64url_that_is_not_canonical(attacked, refused):
    header, payload, signature = attacked.good().split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 256 bytes of signature leave four unused bits in the last character.
    unused = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    for form in (
        f"{header}=.{payload}.{signature}", f"{header}.{payload}==.{signature}", f"{header}.{payload}.{signature}==",
        f"{header}.{payload}.{unused}", f"{header}.{payload}.{signature}A", f"{header}.{payload}.{signature}!",
        f"{header[:5]}\t{header[5:]}.{payload}.{signature}", f"{header}.{payload}.{signature[:8]}+{signature[9:]}",
        f"{header}.{payload}.{signature[:8]}/{signature[9:]}", f"{header}.{payload}.{signature}%3D",
    ):  # fmt: skip
        refused(form, "encoding", "no_bearer_token", "signature")


def test_invalid_utf8(attacked, refused, good):
    key = attacked.keys["rsa"]
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        refused(key.token(json.dumps(good)[:-1].encode() + b',"x":"' + bad + b'"}'), "encoding")
        refused(key.token(good, header=b'{"alg":"RS256","kid":"rsa","x":"' + bad + b'"}'), "encoding")
    # Half a surrogate pair is no character, where anything is read.
    refused(key.token(json.dumps(good | {"sub": "SUB"}).replace("SUB", "\\ud800")), "claims", "subject")


@pytest.mark.parametrize("depth", [129, 1_000, 5_000])
def test_deep_nesting(attacked, refused, good, depth):
    key = attacked.keys["rsa"]
    for open, close in (("[", "]"), ('{"a":', "}")):
        value = open * depth + "1" + close * depth
        payload = json.dumps({name: known for name, known in good.items() if name != "aud"})[:-1] + f',"aud":{value}}}'
        refused(key.token(payload), "claims", "too_large")
        elsewhere = json.dumps(good)[:-1] + f',"x":{value}}}'
        assert attacked.ask(key.token(elsewhere)).reason in ("", "claims", "too_large"), "and it lives"


def test_what_is_no_json_object(attacked, refused, good):
    key = attacked.keys["rsa"]
    for text in ("[]", "null", '"x"', "7", "", "{", f"{json.dumps(good)}x", f"{json.dumps(good)}{{}}", "﻿" + json.dumps(good)):
        refused(key.token(text), "claims")
        refused(key.token(good, header=text), "header")


@pytest.mark.parametrize("size", [8 * 1024, 64 * 1024, 1024 * 1024])
def test_large_tokens(attacked, refused, good, size):
    padded = attacked.keys["rsa"].token(good | {"padding": "x" * (size * 3 // 4 - 600)})
    garbage = "a" * size
    if size <= 16 * 1024:
        assert attacked.ask(padded).is_allowed, "so large a token is allowed (D20)"
        refused(garbage, "structure")
    else:
        refused(padded, "too_large")
        refused(garbage, "too_large")


# ----------------------------------------------------------------------------------------- whose token, for whom, for what


def test_an_id_token_in_place_of_an_access_token(attacked, refused, good):
    agent = attacked.put("typed", attacked.issuer, {"requiredTyp": "at+jwt"})
    key = attacked.keys["rsa"]
    assert attacked.ask(key.token(good, typ="at+jwt"), agent).is_allowed
    assert attacked.ask(key.token(good, typ="application/at+jwt"), agent).is_allowed
    for typ in ("JWT", "jwt", "id_token+jwt", "logout+jwt", "at+jwt ", ..., "dpop+jwt"):
        refused(key.token(good | {"nonce": "n"}, typ=typ), "typ", agent=agent)


@pytest.mark.parametrize("typ", ["dpop+jwt", "logout+jwt", "secevent+jwt", "entity-statement+jwt", "JOSE+JSON", "", "client-authentication+jwt"])
def test_typ_and_cty_confusion(attacked, refused, good, typ):
    """Where no `typ` is asked for, a token that says it is something else is still none."""
    refused(attacked.keys["rsa"].token(good, typ=typ), "typ")
    for value in (None, 7, ["JWT"]):
        refused(attacked.keys["rsa"].token(good, typ=value), "header", "typ")
        refused(attacked.keys["rsa"].token(good, cty=value), "header")


def test_azp_mismatch(attacked, refused):
    agent = attacked.put("party", attacked.issuer, {"azpAsClient": True}, allowedClients=["front-end"])
    key = attacked.keys["rsa"]
    assert attacked.ask(key.token(claims(attacked.issuer, azp="front-end", client_id=...)), agent).is_allowed
    for client, azp in (("front-end", "other"), ("other", "front-end"), (..., "other"), (..., ...)):
        refused(key.token(claims(attacked.issuer, azp=azp, client_id=client)), "client", agent=agent)
    strict = attacked.put("strict-party", attacked.issuer, allowedClients=["front-end"])
    refused(key.token(claims(attacked.issuer, azp="front-end", client_id=...)), "client", agent=strict)


def test_cross_tenant_entra(attacked, refused):
    """All tenants of Entra ID sign with the same keys; what tells them apart is the issuer, and `tid` decides nothing."""
    shared = Key.make("tenants", "RS256")
    ours, theirs = (f"{tenant * 8}-0000-4000-8000-000000000000" for tenant in "ab")
    issuers = [attacked.issuers.publish(f"{tenant}/v2.0", shared.jwk) for tenant in (ours, theirs)]
    agent = attacked.put("tenant", issuers[0])
    assert attacked.ask(shared.token(claims(issuers[0], tid=ours)), agent).is_allowed
    for tid in (ours, theirs, ...):
        refused(shared.token(claims(issuers[1], tid=tid)), "issuer", agent=agent)
    for issuer in (issuers[0].replace(ours, "common"), issuers[0].replace(ours, "{tenantid}"), issuers[0].removesuffix("/v2.0")):
        refused(shared.token(claims(issuer, tid=ours)), "issuer", agent=agent)


def test_kid_shared_by_two_issuers(attacked, refused):
    one, other = Key.make("shared", "RS256"), Key.make("shared", "RS256")
    first, second = attacked.issuers.publish("first", one.jwk), attacked.issuers.publish("second", other.jwk)
    agents = attacked.put("first", first), attacked.put("second", second)
    assert attacked.ask(one.token(claims(first)), agents[0]).is_allowed
    assert attacked.ask(other.token(claims(second)), agents[1]).is_allowed
    refused(other.token(claims(first)), "signature", agent=agents[0])
    refused(one.token(claims(second)), "signature", agent=agents[1])
    refused(other.token(claims(second)), "issuer", agent=agents[0])


def test_two_keys_of_one_name(attacked, refused):
    one, other = Key.make("twice", "RS256"), Key.make("twice", "RS256")
    issuer = attacked.issuers.publish("twice", one.jwk, other.jwk)
    agent = attacked.put("twice", issuer)
    for key in (one, other):
        refused(key.token(claims(issuer)), "ambiguous_key", agent=agent)


def test_replay_is_bounded_where_an_age_is_configured(attacked, refused):
    """There is no store of `jti`: a bearer token is good until it ends. An authorizer may bound its age."""
    agent = attacked.put("aged", attacked.issuer, {"maxTokenAgeSeconds": 60})
    key, now = attacked.keys["rsa"], int(time.time())
    token = key.token(claims(attacked.issuer, jti="once"))
    assert attacked.ask(token, agent).is_allowed and attacked.ask(token, agent).is_allowed
    refused(key.token(claims(attacked.issuer, jti="once", iat=now - 120)), "too_old", agent=agent)
    refused(key.token(claims(attacked.issuer, iat=...)), "age_unknown", agent=agent)


# ----------------------------------------------------------------------------------------------------------------- the request


def test_token_in_both_header_and_query(attacked):
    event = attacked.event(attacked.good())
    for more in ({"access_token": attacked.good()}, {"access_token": "x"}):
        verdict = attacked.ask_about(event | {"queryStringParameters": more})
        assert (verdict.is_allowed, verdict.reason) == (False, "two_tokens")


def test_token_in_the_query_alone(attacked):
    event = attacked.event(attacked.good())
    del event["headers"]["authorization"]
    verdict = attacked.ask_about(event | {"queryStringParameters": {"access_token": attacked.good()}})
    assert (verdict.is_allowed, verdict.reason) == (False, "no_bearer_token")


def test_two_tokens_in_one_header(attacked):
    token = attacked.good()
    for header in (f"Bearer {token},Bearer {token}", f"Bearer {token} {token}", f"Basic {token}", token, f"Bearer\t{token}", "Bearer "):
        event = attacked.event(token)
        event["headers"]["authorization"] = header
        verdict = attacked.ask_about(event)
        assert (verdict.is_allowed, verdict.reason) == (False, "no_bearer_token"), header


def test_d14_another_agent_than_the_cache_is_keyed_by(attacked):
    event = attacked.event(attacked.good())
    event["identitySource"] = event["identitySource"][:1]
    verdict = attacked.ask_about(event)
    assert (verdict.is_allowed, verdict.reason) == (False, "no_agent")


def test_the_session_is_what_the_token_says(attacked, good):
    context = attacked.ask(attacked.keys["ed"].token(good)).context
    assert (context["agentId"], context["subject"]) == (attacked.name_of("plain"), "ada")
    assert (context["issuer"], context["expiresAt"]) == (attacked.issuer, good["exp"])
