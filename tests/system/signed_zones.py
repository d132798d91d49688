"""Zones that are signed, or not, or wrongly, on NSD; unbound, which knows the keys, as the resolver of a network that has nothing else."""
import ctypes
import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from conftest import new_directory, wait_for
from neighbours import libraries, unpacked

HEAD = "$ORIGIN %s\n$TTL 300\n@ SOA ns root 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
FOREIGN = "192.0.2.53"  # where the same resolver answers as well, as if it were another host
SERVERS = {"nsd": 5300, "unbound": 53}
CLONE_NEWNET = 0x40000000


def listens(address, port):
    with socket.socket() as s:
        return s.connect_ex((address, port)) == 0


class Network:
    """While it lasts, this thread, and what it starts, is in a network namespace of its own, with these addresses. packages: what has
    to be unpacked before."""

    def __init__(self, *addresses, packages=tuple(SERVERS)):
        if os.getuid():
            pytest.skip("only root can make namespaces")
        for name in packages:
            unpacked(name)  # which may take the network that is outside
        libc = ctypes.CDLL(None, use_errno=True)
        self.outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.back = lambda: libc.setns(self.outside, CLONE_NEWNET)
        if libc.unshare(CLONE_NEWNET):
            os.close(self.outside)
            pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
        try:
            for line in ("link set lo up", *(f"address add {a}/32 dev lo" for a in addresses)):
                subprocess.run(["ip", *line.split()], check=True)
        except BaseException:
            self.leave()
            raise

    def leave(self):
        assert self.back() == 0
        os.close(self.outside)


class SignedZones:
    """zones: name (with the final dot) to text. A name in unsigned has no keys; the signatures of one in expired were good until
    yesterday. tampered: owners and types of records whose signatures are then made wrong."""

    def __init__(self, zones, unsigned=(), expired=(), tampered=()):
        self.top, self.anchors, self.servers = new_directory(), [], []
        try:
            for name, text in zones.items():
                self.write(name, text)
                if name not in unsigned:
                    self.sign(name, time.time() - 86400 if name in expired else time.time() + 86400)
            for owner, kind in tampered:
                self.tamper(owner, kind)
            self.serve(zones)
        except BaseException:
            self.end()
            raise

    def write(self, name, text):
        (self.top / f"{name}zone").write_text(HEAD % name + text)

    def sign(self, name, until):
        key = subprocess.run(["ldns-keygen", "-k", "-a", "ECDSAP256SHA256", name], cwd=self.top, check=True, stdout=subprocess.PIPE,
                             text=True).stdout.strip()
        subprocess.run(["ldns-signzone", "-i", str(int(until - 10 * 86400)), "-e", str(int(until)), "-f", f"{name}zone", f"{name}zone", key],
                       cwd=self.top, check=True)
        self.anchors.append(self.top / f"{key}.key")

    def tamper(self, owner, kind):
        """Changes the TTL for which the signature of the records is good."""
        (path,) = [p for p in self.top.glob("*zone") if owner.endswith("." + p.name[:-4])]
        text, count = re.subn(rf"(?m)^({re.escape(owner)}\s.*\sRRSIG\s+{kind} 13 \d+ )300 ", r"\g<1>301 ", path.read_text())
        assert count == 1, (owner, kind)
        path.write_text(text)

    def serve(self, zones):
        files = "".join(f'zone:\n name: "{n}"\n zonefile: "{self.top}/{n}zone"\n' for n in zones)
        (self.top / "nsd.conf").write_text(f"""server:
 ip-address: 127.0.0.1@5300
 server-count: 1
 username: ""
 zonesdir: "{self.top}"
 database: ""
 zonelistfile: "{self.top}/nsd.list"
 xfrdfile: ""
 xfrdir: "{self.top}"
 pidfile: "{self.top}/nsd.pid"
 logfile: "{self.top}/nsd.log"
remote-control:
 control-enable: no
{files}""")
        anchors = "".join(f' trust-anchor-file: "{a}"\n' for a in self.anchors)
        stubs = "".join(f'stub-zone:\n name: "{n}"\n stub-addr: 127.0.0.1@5300\n' for n in zones)
        (self.top / "unbound.conf").write_text(f"""server:
 interface: 127.0.0.1
 interface: {FOREIGN}
 access-control: 0.0.0.0/0 allow
 do-ip6: no
 num-threads: 1
 do-daemonize: no
 chroot: ""
 username: ""
 directory: "{self.top}"
 pidfile: "{self.top}/unbound.pid"
 use-syslog: no
 logfile: "{self.top}/unbound.log"
 val-log-level: 2
 module-config: "validator iterator"
 do-not-query-localhost: no
{anchors}{stubs}remote-control:
 control-enable: no
""")
        for name, port in SERVERS.items():
            with open(self.top / f"{name}.stderr", "wb") as errors:
                self.servers.append(subprocess.Popen([unpacked(name) / "usr/sbin" / name, "-d", "-c", self.top / f"{name}.conf"],
                                                     env=libraries(name), stdout=subprocess.DEVNULL, stderr=errors))
            wait_for(lambda: listens("127.0.0.1", port), what=self.top / f"{name}.stderr")

    def end(self):
        for server in self.servers:
            server.terminate()
            server.wait(30)
        shutil.rmtree(self.top)
