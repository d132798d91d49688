"""Certificates for tests, made by openssl: an authority of the run's own, and what it signs."""
import functools
import hashlib
import ssl
import subprocess
import tempfile


def openssl(*args, input=None):
    return subprocess.run(["openssl", *map(str, args)], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout


@functools.cache
def authority():
    """Key and certificate of an authority that signs the tests' certificates, in a directory that the process removes."""
    made = tempfile.TemporaryDirectory()
    # RFC 5280 as Python 3.13 has it looked at: an authority says what its key is for, a certificate by which key it is signed
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj", "/CN=test authority",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", f"{made.name}/ca.key", "-out", f"{made.name}/ca.pem")
    return made


def validity(days):
    """Options of openssl x509; a negative number of days: it has expired."""
    if days < 0 and ssl.OPENSSL_VERSION_INFO >= (3, 4):  # takes no such number, and the others have no such options
        return ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
    return ["-days", days]


@functools.cache
def pem(kind, *names, days=30):
    """Key and chain, signed by the authority: kind "rsa" or the name of a curve."""
    path = authority().name
    new = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{kind}"]
    openssl("req", *new, "-nodes", "-subj", f"/CN={names[0]}", "-keyout", f"{path}/key", "-out", f"{path}/request")
    with open(f"{path}/extensions", "w") as f:
        f.write("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\nauthorityKeyIdentifier=keyid\n")
    chain = openssl("x509", "-req", "-in", f"{path}/request", "-CA", f"{path}/ca.pem", "-CAkey", f"{path}/ca.key", "-CAcreateserial",
                    *validity(days), "-extfile", f"{path}/extensions")
    with open(f"{path}/key", "rb") as key, open(f"{path}/ca.pem", "rb") as ca:
        return key.read() + chain + ca.read()


@functools.cache
def self_signed(name):
    """Key and certificate that no authority has signed."""
    with tempfile.TemporaryDirectory() as made:
        certificate = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30, "-subj", f"/CN={name}",
                              "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{made}/key")
        with open(f"{made}/key", "rb") as key:
            return key.read() + certificate


def digest(chain, what):
    """The SHA-256 digest of the first certificate of a chain, or of its key, in hexadecimal digits."""
    certificate = chain[chain.index(b"-----BEGIN CERT"):]
    if what == "certificate":
        return openssl("x509", "-noout", "-fingerprint", "-sha256", input=certificate).decode().split("=")[1].strip()
    key = openssl("pkey", "-pubin", "-outform", "DER", input=openssl("x509", "-noout", "-pubkey", input=certificate))
    return hashlib.sha256(key).hexdigest()


def server_context(chain, ciphers=None):
    """For a server of Python's ssl, with what pem gives."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(chain)
        file.flush()
        context.load_cert_chain(file.name)
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    return context
