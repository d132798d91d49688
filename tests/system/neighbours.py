"""Mail servers, clients and a name server that others wrote, for tests: unpacked from their packages, not installed."""
import functools
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from conftest import BUILD, SOURCE
from real_server import RealServer
from smtp_session import MEMORY, capped

UNPACKED = BUILD / "unpacked"


@functools.cache
def unpacked(package):
    """Where the package's files are; fails the test if it cannot be had."""
    done = subprocess.run([SOURCE / "admin/unpack", UNPACKED, package], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        pytest.fail(f"the package {package} is missing: {done.stdout.decode()}")
    return UNPACKED / package


def libraries(package):
    """The environment in which programs of an unpacked package find what belongs to them."""
    top = unpacked(package)
    return {**os.environ, "LD_LIBRARY_PATH": f"{top}/usr/lib/postfix:{top}/usr/lib/{platform.machine()}-linux-gnu"}


class Tap:
    """Stands between a client and the server at an address, and keeps what was said: sessions is a list of lists of
    (who, octets), who being "client" or "server"; octets that one of them says without waiting for the other are together."""

    def __init__(self, server):
        self.server, self.sessions = server, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.host, self.port = self.listener.getsockname()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server, said = socket.create_connection(self.server), []
            self.sessions.append(said)
            lock = threading.Lock()
            for who, source, target in (("client", client, server), ("server", server, client)):
                thread = threading.Thread(target=self.pass_on, args=(said, lock, who, source, target), daemon=True)
                self.threads.append(thread)
                thread.start()

    @staticmethod
    def pass_on(said, lock, who, source, target):
        while True:
            try:
                octets = source.recv(65536)
                with lock:
                    if octets and said and said[-1][0] == who:
                        said[-1] = who, said[-1][1] + octets
                    elif octets:
                        said.append((who, octets))
                if not octets:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(octets)
            except OSError:
                return

    def client(self):
        """All that clients said."""
        return b"".join(octets for session in self.sessions for who, octets in session if who == "client")

    def line(self, verb):
        """The first line that began with verb."""
        found = re.search(rb"(?mi)^%s\b.*?(?=\r\n)" % verb.encode(), self.client())
        assert found, self.sessions
        return found.group().decode()

    def has_pipelined(self, first, second):
        """Whether second was sent before there was a reply to first."""
        return any(who == "client" and re.search(rb"(?ms)^%s.*^%s" % (first.encode(), second.encode()), octets)
                   for session in self.sessions for who, octets in session)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)


def undone(octets):
    """A message as it was before it was sent: without the fields that delivery and servers put on top, lines ending in LF."""
    octets = octets.replace(b"\r\n", b"\n")
    return re.sub(rb"(?i)\A(?:(?:Return-Path|Delivered-To|Received|X-Original-To|Envelope-to|Delivery-date):[^\n]*\n(?:[ \t][^\n]*\n)*)*", b"", octets)


# -- hosts of their own: network and mount namespaces, root only ----------------

DNS = "192.0.2.53"
ZONE = """$TTL 300
@ SOA ns root 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.53
silent A 192.0.2.66
%s
alias CNAME alias1
alias1 CNAME alias2
alias2 CNAME target.other.
mxalias MX 10 mx.alias.exim
mx.alias.exim CNAME mx.exim
nullmx MX 0 .
v6 MX 10 six
six AAAA 2001:db8::3
bare A 192.0.2.3
refused MX 5 ns
refused MX 10 mx.exim
dead MX 5 gone
dead MX 10 mx.exim
gone A 192.0.2.99
nohost MX 5 nowhere
nohost MX 10 mx.exim
circle CNAME circle1
circle1 CNAME circle
backup MX 5 mx.exim
backup MX 10 mx.tambo
backup MX 20 mx.postfix
ours MX 5 mx.tambo
ours MX 20 mx.postfix
large MX 5 mx.exim
%s
loop MX 10 mx.twin
servfail NS silent
"""
HOSTS = {"tambo": 1, "postfix": 2, "exim": 3, "twin": 4}
OTHER = "$TTL 300\n@ SOA ns.example. root.example. 1 3600 600 86400 60\n@ NS ns.example.\ntarget MX 10 mx.exim.example.\n"


def zone():
    hosts = [f"{n} MX 10 mx.{n}\nmx.{n} A 192.0.2.{x}\nmx.{n} AAAA 2001:db8::{x}" for n, x in HOSTS.items()]
    many = [f"large MX 20 a-long-name-that-fills-the-answer-{n}.and-more-of-it" for n in range(60)]
    return ZONE % ("\n".join(hosts), "\n".join(many))


class Namespace:
    """A process that sleeps and holds namespaces; what runs in them ends with end()."""
    made = []  # all, for a fixture that failed half-way

    def __init__(self, *kinds, script="", arguments=()):
        self.kinds = kinds
        Namespace.made.append(self)
        self.holder = subprocess.Popen(["unshare", *kinds, "--propagation", "private", "sh", "-ec", f"{script}\necho ready; exec sleep 100000",
                                        "sh", *map(str, arguments)] if "-m" in kinds else
                                       ["unshare", *kinds, "sh", "-ec", "echo ready; exec sleep 100000"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        if self.holder.stdout.readline() != b"ready\n":
            why = self.holder.communicate()[1].decode()
            Namespace.made.remove(self)
            pytest.skip(f"no namespaces of its own can be made here: {why}")

    def enter(self):
        return ["nsenter", "-t", str(self.holder.pid), *self.kinds, "--wd=."]

    def run(self, *command, check=True, **more):
        more.setdefault("timeout", 60)
        done = subprocess.run([*self.enter(), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        if check and done.returncode:
            pytest.fail(f"{command}: {done.stdout.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    def end(self):
        if self in Namespace.made:
            Namespace.made.remove(self)
            end_processes(self.holder.pid)
            self.holder.wait()
            self.holder.stdout.close()
            self.holder.stderr.close()


def end_processes(holder):
    """Ends every process in the network namespace of a process, itself included."""
    space = os.readlink(f"/proc/{holder}/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/net") == space:
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


class Network:
    """A bridge in a namespace that has nothing else but the name server (and an address where nobody answers)."""

    def __init__(self, top):
        self.top = top
        self.space = Namespace("-n")
        self.run = self.space.run
        self.run("ip", "link", "set", "lo", "up")
        # an address of its own: else it changes with each host that joins, and those before ask at the old one for half a minute
        self.run("ip", "link", "add", "br0", "address", "02:00:00:00:00:53", "type", "bridge")
        for address in ("192.0.2.53/24", "192.0.2.66/24", "2001:db8::53/64"):
            self.run("ip", "address", "add", address, "dev", "br0", *(["nodad"] if ":" in address else []))
        self.run("ip", "link", "set", "br0", "up")
        (top / "example").write_text("$ORIGIN example.\n" + zone())
        (top / "other").write_text("$ORIGIN other.\n" + OTHER)
        files = "".join(f'auth-zone:\n name: {n}.\n zonefile: "{top}/{n}"\n for-downstream: no\n for-upstream: yes\n'
                        for n in ("example", "other"))
        (top / "unbound.conf").write_text(f"""server:
 interface: {DNS}
 access-control: 192.0.2.0/24 allow
 do-daemonize: no
 chroot: ""
 username: ""
 directory: "{top}"
 pidfile: "{top}/unbound.pid"
 use-syslog: no
 logfile: "{top}/unbound.log"
 log-queries: yes
 module-config: "iterator"
 max-udp-size: 512
 do-not-query-localhost: no
{files}stub-zone:
 name: servfail.example.
 stub-addr: 192.0.2.66
remote-control:
 control-enable: no
""")
        # takes the questions about servfail.example, and says nothing
        silent = "import socket,time\ns=socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('192.0.2.66',53))\ntime.sleep(100000)"
        self.servers = [subprocess.Popen([*self.space.enter(), *command], env=libraries("unbound"), stdout=subprocess.DEVNULL, stderr=errors)
                        for errors in [open(top / "unbound.stderr", "wb")]
                        for command in (["/usr/bin/python3", "-c", silent],
                                        [unpacked("unbound") / "usr/sbin/unbound", "-d", "-c", top / "unbound.conf"])]

    def join(self, holder, number):
        """Gives the namespace of a process the addresses 192.0.2.NUMBER and 2001:db8::NUMBER."""
        self.run("ip", "link", "add", f"host{number}", "type", "veth", "peer", "name", "eth0", "netns", holder)
        self.run("ip", "link", "set", f"host{number}", "master", "br0", "up")
        for line in ("link set lo up", f"address add 192.0.2.{number}/24 dev eth0", f"address add 2001:db8::{number}/64 dev eth0 nodad",
                     "link set eth0 up"):
            subprocess.run(["nsenter", "-t", str(holder), "-n", "ip", *line.split()], check=True)

    def end(self):
        self.space.end()
        for server in self.servers:
            server.wait()


def resolver(etc):
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text(f"nameserver {DNS}\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")


SUBMIT = """import json, smtplib, sys
host, sender, recipients, options, of_recipients = json.loads(sys.stdin.buffer.readline())
with smtplib.SMTP(host, local_hostname="client.example", timeout=60) as s:
    s.command_encoding = "utf-8"
    s.sendmail(sender, recipients, sys.stdin.buffer.read(), options, of_recipients)
"""


class Peer(Namespace):
    """A host with a mail server of somebody else; all mail for its domain goes into one maildir."""

    def __init__(self, network, top, name, package):
        self.top, self.name, self.domain = top, name, f"{name}.example"
        (top / "etc").mkdir(parents=True)
        top.chmod(0o755)
        super().__init__("-m", "-n", arguments=[top, unpacked(package) / "usr"], script='cp -a /etc/. "$1/etc"; mount --bind "$1/etc" /etc\n'
                         'mount -t overlay overlay -o "lowerdir=$2:/usr" /usr\nfor d in /var/log /var/mail /var/spool /run; do mount -t tmpfs tmpfs $d; done\n')
        resolver(top / "etc")
        network.join(self.holder.pid, HOSTS[name])

    def mail(self):
        return [p.read_bytes() for p in (self.top / "Maildir/new").glob("*")]

    def log(self):
        path = self.top / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def submit(self, octets, *recipients, sender=None, options=(), of_recipients=(), host="127.0.0.1"):
        said = json.dumps([host, sender or f"eva@{self.domain}", recipients, options, of_recipients]).encode()
        self.run("/usr/bin/python3", "-c", SUBMIT, input=said + b"\n" + octets.replace(b"\n", b"\r\n"))

    def listens(self):
        return ":25 " in self.run("ss", "-ltn")


class Postfix(Peer):
    def __init__(self, network, top):
        super().__init__(network, top, "postfix", "postfix")
        etc = top / "etc/postfix"
        shutil.copytree(unpacked("postfix") / "etc/postfix", etc, dirs_exist_ok=True)
        share = unpacked("postfix") / "usr/share/postfix"
        shutil.copy(share / "dynamicmaps.cf", etc)
        master = [line.split() for line in (share / "master.cf.dist").read_text().splitlines() if re.match(r"[a-z]", line)]
        (etc / "master.cf").write_text("".join(" ".join([*f[:4], "n", *f[5:]]) + "\n" for f in master if f[7] not in ("pipe", "tlsmgr")))
        for line in ("groupadd -r postdrop", "useradd -r -U postfix", "useradd -r -U boxes"):
            self.run(*line.split())
        boxes = self.run("id", "-u", "boxes").strip(), self.run("id", "-g", "boxes").strip()
        (etc / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {top}/spool
data_directory = {top}/data
maillog_file_prefixes = {top}
maillog_file = {top}/log
myhostname = mx.postfix.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = postfix.example
virtual_mailbox_base = {top}
virtual_mailbox_maps = static:Maildir/
virtual_uid_maps = static:{boxes[0]}
virtual_gid_maps = static:{boxes[1]}
virtual_mailbox_limit = 0
message_size_limit = 50000000
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtpd_client_restrictions =
smtpd_peername_lookup = no
smtputf8_enable = yes
smtputf8_autodetect_classes = all
minimal_backoff_time = 2s
queue_run_delay = 2s
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{full@postfix.example = 552 5.2.2 full}} }}, permit_mynetworks, reject_unauth_destination
""")
        for folder in ("spool", "data", "Maildir"):
            (top / folder).mkdir()
        shutil.chown(top / "Maildir", int(boxes[0]), int(boxes[1]))
        shutil.chown(top / "data", int(self.run("id", "-u", "postfix")))
        self.run("postfix", "start", stdin=subprocess.DEVNULL)


class Exim(Peer):
    def __init__(self, network, top):
        super().__init__(network, top, "exim", "exim4-daemon-light")
        self.run("useradd", "-r", "-U", "Debian-exim")
        for folder in ("spool", "Maildir", "logs"):
            (top / folder).mkdir()
            shutil.chown(top / folder, int(self.run("id", "-u", "Debian-exim")), int(self.run("id", "-g", "Debian-exim")))
        (top / "log").symlink_to("logs/mainlog")
        (top / "etc/exim4").mkdir(exist_ok=True)
        (top / "etc/exim4/exim4.conf").write_text(rf"""
primary_hostname = mx.exim.example
domainlist ours = exim.example : alias.example : mxalias.example : target.other : v6.example : bare.example : refused.example : \
    dead.example : nohost.example : backup.example : large.example
hostlist relay = 127.0.0.1
spool_directory = {top}/spool
log_file_path = {top}/logs/%slog
deliver_drop_privilege
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
message_size_limit = 50M
daemon_smtp_ports = 25
keep_environment =
add_environment = PATH=/usr/bin:/bin
never_users = root
log_selector = +8bitmime +pipelining +smtp_confirmation +received_recipients
acl_smtp_rcpt = acl_rcpt
begin acl
acl_rcpt:
  defer message = greylisted, come again
    local_parts = grey
    !condition = ${{if exists{{{top}/logs/known}}}}
  accept domains = +ours
  accept hosts = +relay
  deny message = relay not permitted
begin routers
here:
  driver = accept
  domains = +ours
  transport = maildir
away:
  driver = dnslookup
  transport = smtp
  no_more
begin transports
maildir:
  driver = appendfile
  directory = {top}/Maildir
  create_directory
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
smtp:
  driver = smtp
  port = 25
  hosts_avoid_tls = *
begin retry
* * F,1h,2s
""")
        self.run("sh", "-c", f"exim4 -bd -q1m </dev/null >{top}/logs/start 2>&1 || {{ cat {top}/logs/*; exit 1; }}")


class TamboHost(RealServer):
    """tambo with real users and its qmail-smtpd and qmail-rcptd, on a host of its own. The daemons have a limit of memory."""
    namespaces = ("-m", "-n")
    limits = staticmethod(capped(2 * MEMORY))  # the keeper reads its journal of 64 MiB at once

    def __init__(self, network, top, name):
        self.name = f"{name}.example"
        try:
            super().__init__(top)
        except BaseException:
            if hasattr(self, "holder"):
                self.leave()
            raise
        resolver(self.top / "etc")
        network.join(self.holder.pid, HOSTS[name])
        self.write("control/rcpthosts", f"{self.name}\nloop.example\n")

    def popen(self, program, *args, user=None, **more):
        return super().popen(program, *args, user="qmailp" if program == "qmail-rcptd" else user, **more)

    def start(self):
        super().start()
        self.rcptd = self.start_daemon("qmail-rcptd", "qmail-rcptd", env={})
        ours, theirs = os.pipe()
        with open(self.home / "output/qmail-smtpd", "ab") as log:
            self.smtpd = self.popen("qmail-listen", "-u", "qmaild", "0", "25", "bin/qmail-smtpd", "-d", theirs, "-X", pass_fds=[theirs],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True, preexec_fn=self.limits)
        os.close(theirs)
        self.sessions.add(self.smtpd.pid)
        with open(ours, "rb") as ready:
            assert ready.read(1) == b"\n", self.log("qmail-smtpd")

    def stop(self):
        for name in ("smtpd", "rcptd"):
            if process := getattr(self, name, None):
                self.end(process, signal.SIGTERM)
        super().stop()

    def submit(self, octets, *recipients, sender="ana@tambo.example", options="", of_recipients=""):
        """qmail-queue, with the parameters of MAIL and RCPT."""
        envelope = f"F{sender}\0" + (f"P{options}\0" if options else "")
        envelope += "".join(f"T{r}\0" + (f"P{of_recipients}\0" if of_recipients else "") for r in recipients) + "\0"
        done = self.queue(octets, "", envelope=envelope.encode())
        assert done.returncode == 0, done

    def mail(self):
        return self.maildir("ana") + self.maildir("luis")

    def leave(self):
        if self.holder.poll() is None:
            end_processes(self.holder.pid)
        super().leave()
