"""A name server for tests: zones as a test says, over UDP and TCP, and all the ways in which one can misbehave.

    with FakeDns() as dns:
        dns.add("x.example", "MX", (10, "a.x.example"), (20, "b.x.example"))
        dns.add("a.x.example", "A", "192.0.2.1")
        dns.alias("y.example", "x.example")
        dns.behave("z.example", "MX", "SERVFAIL")
        tree.write("control/dnsservers", dns.server + "\\n")

It answers as a resolver does: CNAMEs are followed, an answer too large for UDP is truncated, a name that is not there is
NXDOMAIN, one without records of the type is NODATA; both with an SOA. Everything lives on 127.0.0.1; what was asked is
in dns.queries, as (transport, name, type), in order.

Ways to behave: NXDOMAIN, NODATA, SERVFAIL, REFUSED, FORMERR, SILENT (no answer), TCP (truncated over UDP), NO_TCP (truncated over
UDP, and TCP closed without an answer), REFERRAL (NS of somebody else, no answer), OTHER_NAME (an answer for a name that was not asked), OTHER_ID,
OTHER_QUESTION, GARBAGE, SHORT (cut in the middle of a record), EMPTY (no octet), NO_CHASE (a CNAME without what it leads
to), AUTHENTIC (with the AD bit); or a function that gets (server, query) and returns a list of datagrams.
"""
import socket
import socketserver
import struct
import threading

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "RRSIG": 46, "DNSKEY": 48, "TLSA": 52}
RCODES = {"FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}


def name_octets(name):
    """The octets of a name, given as text or as a list of labels (any octets)."""
    labels = [x.encode() for x in name.split(".") if x] if isinstance(name, str) else name
    return b"".join(bytes([len(x)]) + x for x in labels) + b"\0"


def data_octets(kind, data):
    """RDATA. MX: (preference, name). TXT: octets, or a list of strings. bytes for any other type: as they are."""
    if kind == "MX":
        return struct.pack("!H", data[0]) + name_octets(data[1])
    if kind == "TXT":
        strings = [data[i:i + 255] for i in range(0, len(data), 255)] or [b""] if isinstance(data, bytes) else data
        return b"".join(bytes([len(x)]) + x for x in strings)
    if isinstance(data, bytes):
        return data
    if kind == "A":
        return socket.inet_pton(socket.AF_INET, data)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, data)
    return name_octets(data)


def record(owner, kind, data, ttl=300, question=None):
    """A record's octets. question: the name that stands at octet 12, to which its owner is then compressed."""
    octets = data_octets(kind, data)
    start = b"\xc0\x0c" if question and owner == question else name_octets(owner)
    return start + struct.pack("!HHIH", TYPES[kind], 1, ttl, len(octets)) + octets


class Query:
    """What was asked. kind is the type's name, or its number as text."""

    def __init__(self, octets, transport):
        self.transport = transport
        self.id, self.flags, questions, _, _, additional = struct.unpack("!6H", octets[:12])
        assert questions == 1
        labels, at = [], 12
        while octets[at]:
            labels.append(octets[at + 1:at + 1 + octets[at]])
            at += 1 + octets[at]
        self.name = ".".join(x.decode("ascii") for x in labels).lower()
        number, _ = struct.unpack("!HH", octets[at + 1:at + 5])
        self.kind = {v: k for k, v in TYPES.items()}.get(number, str(number))
        self.question = octets[12:at + 5]
        self.has_edns = bool(additional)
        self.room = max(512, struct.unpack("!H", octets[at + 8:at + 10])[0]) if additional else 512
        if transport == "tcp":
            self.room = 65535

    def reply(self, answers=(), authority=(), rcode=0, flags=0, number=None, question=None, id_=None):
        """A reply's octets; number: how many answers it says it has."""
        question = self.question if question is None else question
        return struct.pack("!6H", self.id if id_ is None else id_, 0x8180 | flags | rcode, 1,
                           len(answers) if number is None else number, len(authority), 0) + \
            question + b"".join(answers) + b"".join(authority)


class FakeDns:
    def __init__(self, address="127.0.0.1", port=0):
        self.address, self.port = address, port  # port 0: a free one
        self.records = {}  # name: {type: [(data, ttl)]}
        self.ways = {}  # (name, type): way
        self.queries = []

    # -- what a test says -----------------------------------------------------
    def add(self, name, kind, *data, ttl=300):
        self.records.setdefault(name.lower(), {}).setdefault(kind, []).extend((d, ttl) for d in data)

    def alias(self, name, target, ttl=300):
        self.add(name, "CNAME", target, ttl=ttl)

    def behave(self, name, kind, way):
        """kind: a type, or "ANY" for all."""
        self.ways[name.lower(), kind] = way

    def asked(self, name, kind):
        """How often that question came, repetitions included."""
        return sum((n, k) == (name, kind) for _, n, k in self.queries)

    @property
    def server(self):
        return f"{self.address}:{self.port}"

    # -- answers ----------------------------------------------------------------
    def soa(self):
        return record("example", "SOA", name_octets("ns.example") + name_octets("root.ns.example") + struct.pack("!5I", 1, 2, 3, 4, 5))

    def collect(self, query, chase=True):
        """The answers, and whether there is the name that the CNAMEs lead to."""
        answers, name, seen = [], query.name, set()
        while True:
            here = self.records.get(name)
            if here is None:
                # a name exists if one below it does
                return answers, any(n.endswith("." + name) for n in self.records) or any(n == name for n, _ in self.ways)
            if query.kind in here:
                answers += [record(name, query.kind, d, ttl, query.name) for d, ttl in here[query.kind]]
                return answers, True
            if "CNAME" not in here or name in seen:
                return answers, True
            seen.add(name)
            target, ttl = here["CNAME"][0]
            answers.append(record(name, "CNAME", target, ttl, query.name))
            if not chase:
                return answers, True
            name = target.lower()

    def usual(self, query, chase=True, flags=0):
        answers, exists = self.collect(query, chase)
        rcode = 0 if exists else RCODES["NXDOMAIN"]
        has_data = any(a for a in answers) and not (chase and self.only_alias(query))
        reply = query.reply(answers, [] if has_data or not chase else [self.soa()], rcode, flags)
        if len(reply) > query.room:
            assert query.transport == "udp", "an answer above 64 KiB"
            return query.reply(flags=0x0200)
        return reply

    def only_alias(self, query):
        name, hops = query.name, 0
        while hops < 100 and query.kind not in self.records.get(name, {}) and "CNAME" in self.records.get(name, {}):
            name, hops = self.records[name]["CNAME"][0][0].lower(), hops + 1
        return query.kind not in self.records.get(name, {})

    def replies(self, query):
        """The datagrams, or messages over TCP, that answer a query."""
        self.queries.append((query.transport, query.name, query.kind))
        way = self.ways.get((query.name, query.kind), self.ways.get((query.name, "ANY")))
        if callable(way):
            return way(self, query)
        if way in ("NXDOMAIN", "NODATA"):
            return [query.reply((), [self.soa()], RCODES.get(way, 0))]
        if way in RCODES:
            return [query.reply(rcode=RCODES[way])]
        if way == "SILENT":
            return []
        if way in ("TCP", "NO_TCP") and query.transport == "udp":
            return [query.reply(flags=0x0200)]
        if way == "NO_TCP":
            return []
        if way == "REFERRAL":
            return [query.reply((), [record("example", "NS", "ns.other.example")])]
        if way == "OTHER_NAME":
            wrong = record("other.example", query.kind, *[d for d, _ in self.records[query.name][query.kind]][:1])
            return [query.reply([wrong], [self.soa()])]
        if way == "OTHER_ID":
            return [query.reply(rcode=RCODES["NXDOMAIN"], id_=query.id ^ 1), self.usual(query)]
        if way == "OTHER_QUESTION":
            wrong = name_octets("other.example") + query.question[-4:]
            return [query.reply(question=wrong, rcode=RCODES["NXDOMAIN"]), self.usual(query)]
        if way == "GARBAGE":
            return [query.reply([b"\xff" * 40], number=3)]
        if way == "SHORT":
            return [self.usual(query)[:-3]]
        if way == "EMPTY":
            return [b""]
        if way == "NO_CHASE":
            return [self.usual(query, chase=False)]
        return [self.usual(query, flags=0x20 if way == "AUTHENTIC" else 0)]

    # -- sockets ------------------------------------------------------------------
    def __enter__(self):
        fake = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                octets, s = self.request
                for reply in fake.replies(Query(octets, "udp")):
                    s.sendto(reply, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self):
                try:
                    while len(head := self.rfile.read(2)) == 2:
                        query = Query(self.rfile.read(struct.unpack("!H", head)[0]), "tcp")
                        replies = fake.replies(query)
                        if not replies:
                            return
                        for reply in replies:
                            self.wfile.write(struct.pack("!H", len(reply)) + reply)
                except OSError:
                    pass

        class TcpServer(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass

        wanted = self.port
        for _ in range(50):  # a port that is free for both
            self.udp = socketserver.ThreadingUDPServer((self.address, wanted), Udp)
            self.udp.daemon_threads = True
            self.udp.max_packet_size = 65535
            self.port = self.udp.server_address[1]
            try:
                self.tcp = TcpServer((self.address, self.port), Tcp)
                break
            except OSError:
                self.udp.server_close()
        self.threads = [threading.Thread(target=s.serve_forever, args=(0.05,), daemon=True) for s in (self.udp, self.tcp)]
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        for s in (self.udp, self.tcp):
            s.shutdown()
            s.server_close()
        for t in self.threads:
            t.join()
