"""POP3 within TLS: rows S5, S17 and S18 of the hostile inputs, clients that others wrote on port 995 and by STLS, what Thunderbird says,
and what sslscan finds on all ports with TLS."""
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import xml.etree.ElementTree

import pytest

from certificates import authority
from conftest import HOST, WAIT
from pop3 import message, names, wire
from serving import Service, read_all
from smtp_session import Queue
from test_pop3_clients import mutt
from test_popup import SECRET, keeper, pop3, tls  # noqa: F401
from test_smtpd_tls import CLEAR
from test_tls import client_hello, in_records, new_context, read_tls, server_name
from transcripts import lines_of, play

CLEAR = {**{name: CLEAR[name] for name in ("HTTP", "PROXY", "SSLv2")}, "POP3": b"USER ana\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n"}


@pytest.fixture
def clear(tls):  # noqa: F811
    """Port 110: logins within TLS only."""
    with Service(tls, "qmail-popup") as service:
        yield service


@pytest.fixture
def pop3s(tls):  # noqa: F811
    """Port 995."""
    with Service(tls, "qmail-popup", "-S") as service:
        yield service


def protect(connection, alpn=None):
    context = new_context()
    if alpn:
        context.set_alpn_protocols(alpn)
    return context.wrap_socket(connection, server_hostname=HOST, suppress_ragged_eofs=False)


def stls(service, alpn=None):
    """A connection on which TLS has begun."""
    connection = service.connect()
    assert connection.recv(100).startswith(b"+OK ")
    connection.sendall(b"STLS\r\n")
    assert connection.recv(100) == b"+OK begin now\r\n"
    return protect(connection, alpn)


# --- S5, S17, S18 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close_notify", "end", "reset"])
def test_S5_an_end_before_quit_removes_nothing(pop3s, tls, how):  # noqa: F811
    """A QUIT that comes in the clear behind the end of TLS is nobody's."""
    before = names(tls)
    raw = pop3s.connect()
    s = protect(raw)
    s.sendall(b"USER ana\r\nPASS secret\r\nDELE 1\r\nNOOP\r\n")
    said = b""
    while said.count(b"\r\n") < 5:
        said += s.recv(1000)
    assert b"-ERR" not in said
    if how == "close_notify":
        raw = s.unwrap()
        raw.sendall(b"QUIT\r\n")
        assert b"+OK" not in read_all(raw)
    elif how == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    else:
        s.close()
    assert " end=closed " in tls.authd_said("qmail-pop3d: session") and names(tls) == before


@pytest.mark.parametrize("name", CLEAR)
def test_S17_clear_octets_on_the_port_of_tls(pop3s, tls, name):  # noqa: F811
    said = pop3s.ask(CLEAR[name])
    assert b"+OK" not in said and b"-ERR" not in said
    assert " commands=0 why=" in pop3s.logged("qmail-popup: no-tls: ") and len(names(tls)) == 2


@pytest.mark.parametrize("octets", [in_records(client_hello()), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20], ids=["TLS", "HTTP"])
def test_S17_another_protocol_on_the_clear_port(clear, octets):
    said = clear.ask(octets)
    assert said.startswith(b"+OK ") and all(line.startswith(b"-ERR ") for line in said.split(b"\r\n")[1:-1])
    assert re.search(r"qmail-popup: (refused|closed): ip=127.0.0.1 user=- tls=- ", clear.logged("qmail-popup: "))


@pytest.mark.parametrize("protocols", [["http/1.1", "h2"], ["smtp"], ["x" * 200]])
def test_S17_another_protocol_by_ALPN(clear, pop3s, protocols):
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        stls(clear, protocols)
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        protect(pop3s.connect(), protocols)
    with protect(pop3s.connect(), ["h2", "pop3"]) as s:
        assert s.selected_alpn_protocol() == "pop3" and s.recv(100).startswith(b"+OK ")


@pytest.mark.parametrize("name", [b"mail\\", b"a\nqmail-popup: logged-in", b"\0", b"x" * 65000, b"\xff" * 50],
                         ids=["backslash", "LF", "NUL", "65000", "octets"])
def test_S18_names(pop3s, name):
    with pop3s.connect() as c:
        c.sendall(in_records(client_hello(server_name(name))))
        c.shutdown(socket.SHUT_WR)
        read_all(c)
    log = pop3s.logged("qmail-popup: no-tls: ")
    assert log.count("\n") == 1 and re.fullmatch(r"[\x20-\x7e]*\n", log) and "\\" not in log
    with protect(pop3s.connect()) as s:
        s.sendall(b"QUIT\r\n")
        assert read_tls(s).endswith(b"+OK\r\n")


def test_S18_compression_is_not_chosen(pop3s):
    """OpenSSL of Debian cannot ask for it: a ClientHello that would rather have DEFLATE."""
    body = client_hello()[4:].replace(b"\xc0\x2f\1\0", b"\xc0\x2f\2\1\0")
    with pop3s.connect() as c:
        c.sendall(in_records(b"\1" + struct.pack(">I", len(body))[1:] + body))
        said = c.recv(1000, socket.MSG_WAITALL)
    session = 5 + 4 + 2 + 32
    after = session + 1 + said[session]
    assert said[0] == 22 and said[5] == 2 and said[after:after + 3] == b"\xc0\x2b\0"


# --- what Thunderbird says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transcript", ["thunderbird-stls.pop3", "thunderbird-keep.pop3"])
def test_transcript(tls, transcript):  # noqa: F811
    with Service(tls, "qmail-popup", *(["-S"] if lines_of(transcript)[0] == "TLS" else [])) as service:
        left = play(transcript, service.connect())
    assert len(names(tls)) == left


# --- clients --------------------------------------------------------------------------------------------------------------------

MESSAGES = [message(1), message(2)]
CA = pathlib.Path(authority().name) / "ca.pem"


@pytest.fixture(params=["995", "STLS"])
def either(request, tls):  # noqa: F811
    """(service, whether TLS begins at once)."""
    tls.write("client/ca.pem", CA.read_bytes())
    at_once = request.param == "995"
    with Service(tls, "qmail-popup", *(["-S"] if at_once else [])) as service:
        yield service, at_once


def run(server, *command):
    home = server.home / "client"
    done = server.run(*command, env={"HOME": str(home)}, cwd=home, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return done.stdout


def test_curl(either, tls):  # noqa: F811
    service, at_once = either
    port = service.address[1]
    said = run(tls, "/usr/bin/curl", "-sS", "--ssl-reqd", "--cacert", "ca.pem", "--resolve", f"{HOST}:{port}:127.0.0.1", "--user",
               f"ana:{SECRET}", f"pop3{'s' if at_once else ''}://{HOST}:{port}/1")
    assert said == wire(MESSAGES[0])


def test_mpop(either, tls):  # noqa: F811
    service, at_once = either
    run(tls, "/usr/bin/mpop", "--host=127.0.0.1", f"--port={service.address[1]}", "--user=ana", f"--passwordeval=echo {SECRET}", "--tls=on",
        f"--tls-starttls={'off' if at_once else 'on'}", "--tls-certcheck=off", "--auth=plain", "--delivery=mbox,mbox", "--keep=off",
        "--uidls-file=uidls")
    assert names(tls) == [] and (tls.home / "client/mbox").read_bytes().count(b"\nSubject: ") == 2


def test_fetchmail(either, tls):  # noqa: F811
    service, at_once = either
    tls.write("client/fetchmailrc", f"poll 127.0.0.1 protocol pop3 port {service.address[1]} user \"ana\" password \"{SECRET}\" "
              f"{'ssl' if at_once else 'sslproto tls1.2'} no sslcertck mda \"cat >>fetched\"\n", 0o600)
    run(tls, "/usr/bin/fetchmail", "-f", "fetchmailrc", "-i", "ids", "--pidfile", "pid", "--nosyslog", "--nokeep", "--all")
    assert names(tls) == [] and (tls.home / "client/fetched").read_bytes().count(b"\nSubject: ") == 2


def test_getmail(tls):  # noqa: F811
    """It knows port 995 only."""
    for folder in ("new", "cur", "tmp"):
        tls.write(f"client/got/{folder}/.keep", "")
    with Service(tls, "qmail-popup", "-S") as service:
        tls.write("client/getmailrc", f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\nport = {service.address[1]}\n"
                  f"username = ana\npassword = {SECRET}\n[destination]\ntype = Maildir\npath = {tls.home}/client/got/\n"
                  "[options]\ndelete = true\n", 0o600)
        run(tls, "/usr/bin/getmail", "--getmaildir", tls.home / "client", "--rcfile", "getmailrc", "--quiet")
    assert names(tls) == [] and len([n for n in os.listdir(tls.home / "client/got/new") if n != ".keep"]) == 2


def test_mutt(either, tls):  # noqa: F811
    service, at_once = either
    said, spool = mutt(tls, f"pop{'s' if at_once else ''}://127.0.0.1:{service.address[1]}", "ana", SECRET, "ssl_starttls=yes", "ssl_force_tls=yes",
                       "ssl_ca_certificates_file=ca.pem", "ssl_verify_host=no")
    assert names(tls) == [] and spool.count(b"\nSubject: ") == 2, said


# --- sslscan ----------------------------------------------------------------------------------------------------------------------

SCANNED = {"995": ("qmail-popup", ["-S"], {}, []), "110": ("qmail-popup", [], {}, ["--starttls-pop3"]),
           "465": ("qmail-smtpd", ["-X"], {"SMTPS": "1"}, []), "25": ("qmail-smtpd", ["-X"], {}, ["--starttls-smtp"])}


@pytest.mark.parametrize("port", SCANNED)
def test_sslscan(tls, port):  # noqa: F811
    """Nothing below TLS 1.2, no weak suite, no renegotiation."""
    if not os.path.exists("/usr/bin/sslscan"):
        pytest.skip("needs sslscan")
    program, options, env, how = SCANNED[port]
    with Queue(tls), Service(tls, program, *options, env=env) as service:
        said = subprocess.run(["sslscan", "--xml=-", "--no-fallback", "--no-groups", "--no-check-certificate", *how, f"127.0.0.1:{service.address[1]}"], stdout=subprocess.PIPE,
                              timeout=WAIT, check=True).stdout
    found = xml.etree.ElementTree.fromstring(said).find("ssltest")
    assert [(p.get("type"), p.get("version")) for p in found.findall("protocol") if p.get("enabled") == "1"] == [("tls", "1.2")]
    assert found.find("renegotiation").get("supported") == "0"
    assert all(h.get("vulnerable") == "0" for h in found.findall("heartbleed"))
    ciphers = found.findall("cipher")
    assert ciphers and all(c.get("sslversion") == "TLSv1.2" and int(c.get("bits")) >= 128 and c.get("cipher").startswith("ECDHE-") and
                           c.get("strength") not in ("weak", "null", "anonymous") for c in ciphers)
