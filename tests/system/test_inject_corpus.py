"""Real mail through qmail-inject: the body octet for octet the same, the header changed only as section 3 says."""
import email.policy
import email.utils
import re

import pytest

from conftest import SHARED
from injecting import inject, own_inject, shared_injecting  # noqa: F401

MESSAGES = sorted((SHARED / "corpus").glob("*.eml"))
pytestmark = pytest.mark.skipif(not MESSAGES, reason=f"no messages in {SHARED}/corpus")

DROPPED = {"bcc", "resent-bcc", "return-path", "content-length"}
RECIPIENTS = {"to", "cc", "bcc", "apparently-to"}
RESENT_RECIPIENTS = {"resent-to", "resent-cc", "resent-bcc"}
REWRITTEN = {"to", "cc", "from", "sender", "reply-to", "return-receipt-to", "errors-to", "apparently-to", "resent-to",
             "resent-cc", "resent-from", "resent-sender", "resent-reply-to"}
# what no parser of addresses makes sense of: exit 100 where its recipients count
UNREADABLE = {"missing_body.eml"}


def split(octets):
    """(fields with their folds and LF line ends, body, whether an empty line ended the header), by the reference."""
    fields, rest = [], octets
    while rest:
        line, lf, after = rest.partition(b"\n")
        line = line[:-1] if lf and line.endswith(b"\r") else line
        if not line and lf:
            return fields, after, True
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += b"\n" + line
        elif re.match(rb"[!-9;-~]+[ \t]*:", line):
            fields.append(line)
        elif not fields and line.startswith(b"From "):
            fields.append(b"MBOX-Line: " + line)
        else:
            return fields, rest, False
        rest = after
    return fields, b"", None


def name_of(field):
    return field.split(b":", 1)[0].strip().lower().decode()


def addresses(values):
    """Of complete addresses only, as Python sees them; enough to see that none got lost or changed."""
    texts = [re.sub(r"\n(?=[ \t])", "", v.decode("utf-8", "surrogateescape")) for v in values]
    return [a for _, a in email.utils.getaddresses(texts) if "@" in a and "." in a.split("@")[-1]]


def plain(address):
    return re.sub(r'"|\s', "", address)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda p: p.stem)
def test_corpus(inject, path):
    octets = path.read_bytes()
    before, body, ended = split(octets)
    message, _, _ = inject.queued(octets, "-a", "ana@h.example")
    after, body_after, ended_after = split(message)
    assert body_after == body and (ended_after or ended is None)
    added = len(after) - len([f for f in before if name_of(f) not in DROPPED])
    head, kept = after[:added], after[added:]
    resent = any(name_of(f).startswith("resent-") for f in before)
    assert [name_of(f) for f in head] == [
        n for n, there in (("date", ["date"]), ("message-id", ["message-id"]), ("from", ["from"]), ("cc", ["to", "cc"]))
        if not resent and not {name_of(f) for f in before} & set(there)
        or resent and not {name_of(f) for f in before} & {"resent-" + t for t in there}], head
    for old, new in zip([f for f in before if name_of(f) not in DROPPED], kept, strict=True):
        if name_of(old) not in REWRITTEN:
            assert new == old
            continue
        assert name_of(new) == name_of(old)
        assert all(len(line) <= 80 for line in new.split(b"\n")) or b"," not in new
    # what was a whole address still is, in the same order
    for name in REWRITTEN:
        old = [f.split(b":", 1)[1] for f in before if name_of(f) == name]
        new = [f.split(b":", 1)[1] for f in kept if name_of(f) == name]
        strange = {"example10.eml", "example11.eml", "example13.eml", "raw_email_multiple_from.eml", "mix_caps_content_type.eml",
                   "raw_email_with_at_display_name.eml", "missing_body.eml"}
        if path.name not in strange:
            assert [plain(a) for a in addresses(new)][:len(addresses(old))] == [plain(a) for a in addresses(old)]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda p: p.stem)
def test_corpus_recipients(inject, path):
    """-h: every address that Python finds in the recipient fields is a recipient."""
    octets = path.read_bytes()
    if path.name in UNREADABLE:
        inject.refused(octets, "-h", says=b"unable to parse")
        return
    fields, _, _ = split(octets)
    resent = any(name_of(f).startswith("resent-") for f in fields)
    harvest = RESENT_RECIPIENTS if resent else RECIPIENTS
    wanted = addresses([f.split(b":", 1)[1] for f in fields if name_of(f) in harvest])
    got = [r.decode("utf-8", "surrogateescape") for r in inject.queued(octets, "-h")[2]]
    if path.name in ("example10.eml", "example11.eml", "raw_email_multiple_from.eml", "raw_email_with_at_display_name.eml"):
        return
    assert [a for a in got if plain(a) in map(plain, wanted)] == got or set(wanted) <= set(got)
    assert set(map(plain, wanted)) <= set(map(plain, got))


@pytest.mark.parametrize("name, recipients", [
    ("example10.eml", ["c@public.example", "joe@example.org", "jdoe@one.test"]),
    ("example11.eml", ["mary@example.net", "jdoe@test.example"]),
    ("example13.eml", ["Mary@mail.test.example", "Smith@mail.test.example"]),
    ("raw_email_multiple_from.eml", ["tim@powerupdev.com", "concierge@powerupdev.com"]),
    ("raw_email_with_at_display_name.eml", ["smith@gmail.com", "raasdnil@gmail.com", "tom@gmail.com"]),
    ("empty_group_lists.eml", []),
    ("weird_to_header.eml", ["user-example@aol.com", "e-s-a-s-2200@app.ar.com"]),
    ("new_line_in_to_header.eml", ["leads@sg.dc.com", "sag@leads.gs.ry.com", "sn@example-hotmail.com",
                                   "e-s-a-g-8718@app.ar.com", "jp@t-exmaple.com", "cc@c-l-example.com"]),
    ("raw_email11.eml", ["matmail@mail.test.example"]),
    ("report_422.eml", ["mikel@sssssss.net"]),
    ("utf8_headers.eml", ["märy@exämple.net"]),
    ("content_transfer_encoding_empty.eml", ["brucegemini@yahoo.com.tw", "Array@mail.test.example"]),
])
def test_corpus_strange_recipients(inject, name, recipients):
    octets = (SHARED / "corpus" / name).read_bytes()
    assert [r.decode() for r in inject.queued(octets, "-h")[2]] == recipients


def test_corpus_with_LF_and_with_CRLF_is_the_same_header(inject):
    """Only the line ends of the body tell them apart."""
    for path in MESSAGES[::9]:
        lf = path.read_bytes().replace(b"\r\n", b"\n")
        one = inject.queued(lf, "-a")[0].split(b"\n\n", 1)
        other = inject.queued(lf.replace(b"\n", b"\r\n"), "-a")[0].split(b"\n\n", 1)
        unstable = rb"(?m)^(Date|Message-ID): .*qmail@.*|^Date: .* -0000$"
        assert re.sub(unstable, b"", one[0]) == re.sub(unstable, b"", other[0])
        assert one[1].replace(b"\n", b"\r\n") == other[1]
