"""UTF-8 in headers and POP3 clients that do not say UTF8, RFC 6856 and 6858: what they get is ASCII, and to a reader that others
wrote it says what the message says."""
import email
import email.policy
import email.utils
import poplib
import random

import pytest

from conftest import HOST, WAIT
from pop3 import Session, deliver, wire
from serving import Service
from test_popup import SECRET, Chain, Pop3, either, keeper, pop3, tls  # noqa: F401 (fixtures)
from test_tls import new_context

UTF8 = {"POP3UTF8": "1"}
INVALID = "invalid@internationalized-address.invalid"
STORED = "From: Zoë <zoë@bücher.example>\nSubject: Größe\n\nKöln\n.\n".encode()
ASCII = (b"From: =?utf-8?q?Zo=C3=AB_=3Czo=C3=AB=40b=C3=BCcher=2Eexample=3E?=\r\n <" + INVALID.encode() + b">\r\n"
         b"Subject: =?utf-8?q?Gr=C3=B6=C3=9Fe?=\r\n\r\n" + "Köln\r\n.\r\n".encode())


# --- saying UTF8 ----------------------------------------------------------------------------------------------------------


def retrieved(client):
    return b"".join(line + b"\r\n" for line in client.retr(3)[1])


@pytest.mark.parametrize("says", [True, False])
def test_utf8(either, pop3, says):  # noqa: F811
    deliver(pop3, STORED)
    client = poplib.POP3(*either.address, timeout=WAIT)
    assert "UTF8" in client.capa()
    if says:
        assert client.utf8() == b"+OK"
    client.user("ana")
    client.pass_(SECRET)
    assert retrieved(client) == (wire(STORED) if says else ASCII)
    head = b"".join(line + b"\r\n" for line in client.top(3, 1)[1])
    assert head == (wire(STORED) if says else ASCII)[:-3]
    client.quit()


@pytest.mark.parametrize("says", ["before", "behind"])
def test_utf8_and_stls(tls, says):  # noqa: F811
    """What was said before TLS is forgotten."""
    deliver(tls, STORED)
    with Service(tls, "qmail-popup") as service:
        client = poplib.POP3(*service.address, timeout=WAIT)
        if says == "before":
            client.utf8()
        client.host = HOST
        client.stls(new_context())
        if says == "behind":
            client.utf8()
        client.user("ana")
        client.pass_(SECRET)
        assert retrieved(client) == (wire(STORED) if says == "behind" else ASCII)
        client.quit()


def test_the_administrator_says_so(pop3):  # noqa: F811
    """tcprules can set the variable, for clients that take any octets without saying so."""
    deliver(pop3, STORED)
    with Chain(pop3, env=UTF8) as chain:
        client = poplib.POP3(*chain.address, timeout=WAIT)
        client.user("ana")
        client.pass_(SECRET)
        assert retrieved(client) == wire(STORED)
        client.quit()


# --- what is sent -----------------------------------------------------------------------------------------------------------


def header(octets):
    return octets.split(b"\r\n\r\n", 1)[0]


def names(message):
    return [part.get_filename() for part in message.walk()]


def payloads(message):
    return [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]


def parse(octets):
    return email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)


def test_corpus(tree, corpus):
    """Real messages have the same subject, names and contents; where there is no UTF-8 in a header, every octet."""
    tree.need("qmail-pop3d")
    for _, octets in corpus:
        deliver(tree, octets)
    with Session(tree) as session:
        for n, (name, octets) in enumerate(corpus):
            stored, got = wire(octets), session.message(n + 1)
            try:
                is_internationalized = not header(stored).isascii() and bool(header(stored).decode())
            except UnicodeDecodeError:
                is_internationalized = False
            if is_internationalized:
                assert header(got).isascii(), name
                before, after = parse(stored), parse(got)
                assert (before["Subject"] or "").strip() == (after["Subject"] or "").strip(), name
                assert names(before) == names(after) and payloads(before) == payloads(after), name
            elif stored.isascii():
                assert got == stored.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n"), name
        session.quit()


WORDS = ["Ana", "Zoë", "Größe", "x.y", "a, b", "日本語", "\"q\"", "é", "Иван Петров", "back\\slash", "(c)", "😀", "long" * 12, "ü" * 30, "<", "@", "="]


def random_text(dice):
    return " ".join(dice.choices(WORDS, k=dice.randrange(1, 6)))


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def random_address(dice):
    """(display name, address) as they are meant, and as they are written."""
    name = dice.choice(["", random_text(dice)])
    address = dice.choice(["ana@a.example", "zoë@a.example", "luis@bücher.example", "\"a b\"@a.example"])
    if not name:
        return ("", address), dice.choice([address, f"<{address}>"])
    return (name, address), f"{quoted(name)} <{address}>"


def random_field(dice, name):
    """A field with addresses: who it names, and the field, folded anywhere between them."""
    meant, written = zip(*[random_address(dice) for _ in range(dice.randrange(1, 7))])
    return list(meant), f"{name}: " + dice.choice([", ", ",\n ", ",\n\t"]).join(written) + "\n"


def expected(name, address):
    if address.isascii():
        return name, address
    return (f"{name} <{address}>" if name else None), INVALID


def check_addresses(field, meant):
    """As Python's older reader has it, and decoded behind that, which is how RFC 2047 section 6.1 wants it."""
    assert field.isascii()
    got = [(str(email.header.make_header(email.header.decode_header(name))), address) for name, address in email.utils.getaddresses([field])]
    assert len(got) == len(meant), (field, meant)
    for (name, address), (wanted, kept) in zip(got, (expected(*m) for m in meant)):
        assert address == kept, (field, meant)
        if wanted is not None:
            assert name.replace("\n", "") == wanted, (field, meant)


def test_random_headers(tree):
    tree.need("qmail-pop3d")
    dice = random.Random(6858)
    made = []
    for _ in range(300):
        subject, name = random_text(dice), "a " + random_text(dice)  # Python takes off quotes around all of a name
        sender, to = random_field(dice, "From"), random_field(dice, "To")
        text = (f"{sender[1]}{to[1]}Subject: {subject}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
                f"Content-Type: application/x; name={quoted(name)}; x=y\nContent-Disposition: attachment;\n filename={quoted(name)}\n\n"
                f"{name}\n--b--\n")
        deliver(tree, text.encode())
        made.append((subject, name, sender[0], to[0], text))
    with Session(tree) as session:
        for n, (subject, name, sender, to, text) in enumerate(made):
            got = session.message(n + 1)
            assert all(len(line) <= 998 for line in got.split(b"\r\n"))
            message = email.message_from_bytes(got, policy=email.policy.compat32)
            part = message.get_payload()[0]
            assert str(email.header.make_header(email.header.decode_header(message["Subject"]))) == subject, text
            assert email.utils.collapse_rfc2231_value(part.get_param("name")) == name and part.get_param("x") == "y"
            assert part.get_filename() == name
            assert part.get_payload(decode=True).decode().rstrip("\r\n") == name
            check_addresses(message["From"], sender)
            check_addresses(message["To"], to)
        session.quit()


def test_sizes_are_the_files(tree):
    """RFC 6858 section 4 lets them be those of the message that is stored: nobody reads it to list it."""
    tree.need("qmail-pop3d")
    deliver(tree, STORED)
    with Session(tree) as session:
        assert session.command("LIST 1") == f"+OK 1 {len(STORED)}"
        assert session.message(1) == ASCII
        session.quit()
