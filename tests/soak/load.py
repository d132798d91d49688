"""Who sends, reads and idles: functions that are processes of their own, each until stop (an Event) is set.

Where a server may do what it did, as to hang up while it stops, they go on; what it must not do raises, and ends the run."""
import contextlib
import itertools
import poplib
import random
import smtplib
import socket
import ssl
import subprocess
import threading
import time

from ledger import FIELD, Ledger, digest

WAIT = 300
LINE = b"The quick brown fox jumps over the lazy dog, and again, and again.\n"
TROUBLE = (OSError, smtplib.SMTPException)


def size():
    """Most messages are small, some are not, a few are more than the journal takes."""
    return random.choices([random.randint(0, 4096), random.randint(4096, 65536), random.randint(65536, 1 << 20), 6 << 20],
                          [70, 25, 4.7, 0.3])[0]


def make(name, sender, recipients):
    """A message of lines, some of which begin with a dot or are empty."""
    lines, left = [], size()
    while left > 0:
        line = random.choice((LINE, b".\n", b"..x\n", b"\n", b"\xc3\xbc" * random.randint(1, 400) + b"\n"))
        lines.append(line)
        left -= len(line)
    head = f"From: {sender}\nTo: {', '.join(recipients)}\nX-Soak: {name}\nSubject: {name}\n\n"
    return head.encode() + b"".join(lines)


class Sender:
    """Invents messages and writes down what became of them."""

    def __init__(self, world, who):
        self.world, self.who = world, who
        self.accepted = Ledger(world.directory, "accepted", who)
        self.doubtful = Ledger(world.directory, "doubtful", who)
        self.count = itertools.count(1)

    def recipients(self):
        here = [f"{who}@{self.world.domain}" for who in ("ana", "luis", "ana-grumpy")]
        good = [f"r{n}@good.example" for n in range(20)]
        kind = random.choices(("here", "good", "many", "slow", "flaky", "refuse", "fails"), (45, 35, 5, 0.3, 8, 2, 3))[0]
        return {"here": lambda: random.sample(here, random.randint(1, 2)), "good": lambda: random.sample(good, random.randint(1, 3)),
                "many": lambda: good + here, "slow": lambda: ["s@slow.example"], "flaky": lambda: ["f@flaky.example"],
                "refuse": lambda: ["nobody@refuse.example"], "fails": lambda: [f"ana-fails@{self.world.domain}"]}[kind]()

    def send(self, how):
        """how(sender, recipients, message) returns if it was accepted, or raises one of TROUBLE."""
        name = f"{self.who}.{next(self.count)}"
        sender, recipients = f"{random.choice(('ana', 'luis'))}@{self.world.domain}", self.recipients()
        message = make(name, sender, recipients)
        try:
            how(sender, recipients, message)
        except TROUBLE:
            self.doubtful.add(name, digest(message), recipients)
            raise
        self.accepted.add(name, digest(message), recipients)
        time.sleep(random.uniform(0, 2 * self.world.pause))


def chunked(session, sender, recipients, message):
    """By BDAT, in chunks of any size."""
    octets = message.replace(b"\n", b"\r\n")
    for code, text in (session.mail(sender), *(session.rcpt(recipient) for recipient in recipients)):
        if code != 250:
            raise smtplib.SMTPDataError(code, text)
    while True:
        end = random.randint(1, 100000)
        part, octets = octets[:end], octets[end:]
        session.send(b"BDAT %d%s\r\n" % (len(part), b"" if octets else b" LAST") + part)
        code, text = session.getreply()
        if code != 250:
            raise smtplib.SMTPDataError(code, text)
        if not octets:
            return


def by_data(session, sender, recipients, message):
    refused = session.sendmail(sender, recipients, message.replace(b"\n", b"\r\n"), ["BODY=8BITMIME"])
    assert not refused, refused


def smtp(world, who, stop):
    """Sessions from changing addresses, of one or of many messages."""
    sender = Sender(world, who)
    while not stop.is_set():
        with contextlib.suppress(*TROUBLE), \
                smtplib.SMTP("127.0.0.1", world.smtp, timeout=WAIT, source_address=(f"127.1.0.{random.randint(1, 20)}", 0)) as session:
            session.ehlo("client.example")
            for _ in range(random.choice((1, 1, 3, 30))):
                way = random.choice((by_data, by_data, chunked))
                sender.send(lambda *message: way(session, *message))


def submission(world, who, stop):
    """Sessions with TLS and a login."""
    sender = Sender(world, who)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while not stop.is_set():
        with contextlib.suppress(*TROUBLE), smtplib.SMTP("127.0.0.1", world.submission, timeout=WAIT) as session:
            session.starttls(context=context)
            session.login(f"ana@{world.domain}", world.password)
            for _ in range(20):
                sender.send(lambda _, *message: by_data(session, f"ana@{world.domain}", *message))


def inject(world, who, stop):
    """qmail-inject, a process a message."""
    sender = Sender(world, who)

    def run(address, recipients, message):
        done = subprocess.run([*world.as_user, world.home / "bin/qmail-inject", "-a", "-f", address, *recipients], input=message,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT, cwd=world.home)
        if done.returncode:
            raise OSError(done.stdout)

    while not stop.is_set():
        with contextlib.suppress(*TROUBLE):
            sender.send(run)
        time.sleep(5 * world.pause)


def fetch(world, user, ledger):
    """All that has arrived by POP3, and removes it. Returns how many."""
    session = poplib.POP3("127.0.0.1", world.pop3, timeout=WAIT)
    session.user(f"{user}@{world.domain}")
    session.pass_(world.password)
    found = []
    for number in range(1, session.stat()[0] + 1):
        message = b"\n".join(session.retr(number)[1]) + b"\n"
        session.dele(number)
        is_bounce = b"\nReturn-Path: <>" in b"\n" + message[:200]
        found.append((FIELD.search(message).group(1).decode(), digest(message), "bounce" if is_bounce else f"{user}@{world.domain}"))
    session.quit()  # removed from now on
    for entry in found:
        ledger.add(*entry)
    return len(found)


def reader(world, who, stop):
    """Fetches mail of a user, every now and then."""
    ledger = Ledger(world.directory, "arrived", who)
    while not stop.wait(random.uniform(1, 5)):
        with contextlib.suppress(OSError, poplib.error_proto):
            fetch(world, who, ledger)


def slow_readers(world, _, stop):
    """Clients that say much and read nothing, and those that fall silent within a message."""
    while not stop.is_set():
        with contextlib.ExitStack() as stack:
            for n in range(20):
                with contextlib.suppress(OSError):
                    c = stack.enter_context(socket.create_connection(("127.0.0.1", world.smtp), WAIT, (f"127.2.0.{n + 1}", 0)))
                    c.setblocking(False)
                    c.send(b"EHLO slow.example\r\n" + (b"NOOP\r\n" * 10000 if n % 2 else
                           b"MAIL FROM:<>\r\nRCPT TO:<ana@%s>\r\nDATA\r\nX-Soak: never\r\n\r\nhalf a mess" % world.domain.encode()))
            stop.wait(60)


def idlers(world, greeted, stop):
    """Sessions that say nothing; one that is closed is opened again. greeted.value: how many are open and have had their greeting."""
    sessions, served = {}, set()
    while not stop.wait(1):
        greeted.value = len(served)
        for n in range(world.idle):
            try:
                if n not in sessions:
                    # of many networks, as so many clients are
                    sessions[n] = socket.create_connection(("127.0.0.1", world.smtp), WAIT, (f"127.3.{n // 100}.{n % 100 + 1}", 0))
                    sessions[n].setblocking(False)
                while octets := sessions[n].recv(1000):
                    if octets.startswith(b"220 "):
                        served.add(n)
            except BlockingIOError:
                continue
            except OSError:
                pass
            served.discard(n)
            if n in sessions:
                sessions.pop(n).close()


NAP = 0.02


def sleeper(woken):
    """Who only sleeps, and says when it woke up: it tells a machine that stands still from a server."""
    while True:
        time.sleep(NAP)
        woken.append(time.monotonic())


def probe(world, greetings, stop):
    """A client whom nobody knows, each half second: appends to greetings in how many seconds the greeting came and the connection stood, when
    that began (time.monotonic), and how late a process was meanwhile that only sleeps."""
    woken = []
    threading.Thread(target=sleeper, args=[woken], daemon=True).start()
    for n in itertools.count():
        woken.clear()
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", world.smtp), WAIT, (f"127.4.{n // 200 % 250}.{n % 200 + 1}", 0)) as c:
            connected = time.monotonic()
            greeting = c.recv(1000)
            assert greeting.startswith(b"220 "), greeting
            ended = time.monotonic()
            naps = [began, *woken, ended]
            late = max(b - a for a, b in itertools.pairwise(naps)) - NAP
            greetings.append((ended - began, connected - began, began, max(late, 0)))
            c.sendall(b"QUIT\r\n")
            c.recv(1000)
        if stop.wait(0.5):
            return
