"""Links over TLS between real servers, each of which shows its certificate to the other."""

import datetime
import ipaddress
import json
import ssl

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.sync.client import connect

from lib.device import unique
from lib.mesh import ADDRESSES
from lib.server import Server, until

pytestmark = pytest.mark.timeout(120)


class Authority:
    """Signs certificates for addresses; its own is in `file`."""

    def __init__(self, directory):
        self.directory = directory
        self.file = directory / "authority.pem"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the mesh")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        own = self.begin(self.name, self.key).add_extension(constraints, critical=True).sign(self.key, hashes.SHA256())
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def begin(self, subject, key):
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        day = datetime.timedelta(days=1)
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    def sign(self, address):
        """The files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        signed = self.begin(subject, key).add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        cert, secret = self.directory / f"{address}.pem", self.directory / f"{address}.key"
        cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return cert, secret


class Sealed(Server):
    """A server that speaks TLS only."""

    def __init__(self, directory, name, authority, host, shows=True, peers=(), secret=None):
        cert, key = authority.sign(host)
        flags = ["--node-id", name, "--tls-cert", cert, "--tls-key", key, "--link-demand-cert", "--allow-direct"]
        flags += ["--link-ca", authority.file] + (["--link-cert", cert, "--link-key", key] if shows else [])
        flags += [word for peer in peers for word in ("--peer", f"wss://{peer.host}:{peer.wanted_port}")]
        super().__init__(directory / name, *flags, host=host, port=7411, secret=secret)
        self.authority = authority

    def ask(self, path):
        key = {"Authorization": f"Bearer {self.admin()}"}
        url = f"https://{self.host}:{self.wanted_port}{path}"
        return requests.get(url, headers=key, verify=str(self.authority.file), timeout=10)

    def reaches(self):
        try:
            servers = self.ask("/v1/mesh").json()["servers"]
        except requests.RequestException:
            return set()
        return {one["node_id"] for one in servers if one["reachable"]}

    def socket(self, node):
        context = ssl.create_default_context(cafile=str(self.authority.file))
        url = f"wss://{self.host}:{self.wanted_port}/connectV2?auth_key={self.key(node)}"
        return connect(url, ssl=context, proxy=None)


def test_servers_link_up_over_tls_and_who_shows_no_certificate_is_kept_out(tmp_path):
    authority = Authority(tmp_path)
    first = Sealed(tmp_path, "s1", authority, next(ADDRESSES))
    second = Sealed(tmp_path, "s2", authority, next(ADDRESSES), peers=[first], secret=first.secret)
    third = Sealed(tmp_path, "s3", authority, next(ADDRESSES), shows=False, peers=[first], secret=first.secret)
    servers = [first, second, third]
    try:
        for server in servers:
            server.launch()
        for server in (first, second):
            until(lambda s=server: s.reaches() == {"s1", "s2"}, limit=30)
        alice, bob = unique("alice"), unique("bob")
        with first.socket(alice) as one, second.socket(bob) as other:
            one.send(json.dumps({"dest_id": bob, "type": 1, "payload": "sealed", "reference": "r"}))
            assert json.loads(other.recv(timeout=15))["payload"] == "sealed"
            assert json.loads(one.recv(timeout=15))["reference"] == "r"
        until(lambda: "certificate" in third.log().lower(), limit=30)
        assert third.reaches() == {"s3"} and first.reaches() == {"s1", "s2"}
    finally:
        for server in servers:
            if server.process:
                server.kill()
