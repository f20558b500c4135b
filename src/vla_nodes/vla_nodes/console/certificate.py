# SPDX-License-Identifier: Apache-2.0
"""A certificate for the console on the local network, made on first use."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = datetime.timedelta(days=397)  # browsers refuse longer ones
RENEWED = datetime.timedelta(days=30)  # before its end


def addresses() -> list[str]:
    """Addresses of this machine that others may reach, the one towards the network first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks which way it would go
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    for *_, address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET):
        if address[0] not in found and not address[0].startswith("127."):
            found.append(str(address[0]))
    return found


def fingerprint(certificate: Path) -> str:
    """SHA-256 as browsers show it, to be compared before the warning is accepted."""
    digest = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    return digest.hex(":").upper()


def ensure(folder: Path, hosts: list[str]) -> tuple[Path, Path]:
    """The certificate and its key, made anew where they are missing, old or for other hosts.

    Args:
        folder: Where they are kept; the key is for its owner alone.
        hosts: Names and addresses that it shall be valid for.

    Returns:
        Paths of certificate and key, PEM.
    """
    certificate, key = folder / "console.crt", folder / "console.key"
    if _valid(certificate, hosts) and key.is_file():
        return certificate, key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vla console")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key.unlink(missing_ok=True)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _valid(certificate: Path, hosts: list[str]) -> bool:
    try:
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return False
    names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    until = known.not_valid_after_utc - RENEWED
    wanted = {_name(host) for host in hosts}
    return wanted <= set(names) and datetime.datetime.now(datetime.UTC) < until
