"""What the scripts of tests/bench that measure servers side by side share: the harness of ../shared/bench, and a table of figures."""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import types

SOURCE = pathlib.Path(__file__).resolve().parents[2]
OURS = "tambo"
BENCH = pathlib.Path(os.environ.get("BENCH", SOURCE.parent / "shared/bench"))


def load_harness(directory):
    """The harness as a module. It looks for peers beside its own name: a directory with links gives it ours as well."""
    (directory / "peers").mkdir()
    (directory / "lib").symlink_to(BENCH / "lib")
    for peer in (BENCH / "peers").iterdir():
        (directory / "peers" / peer.name).symlink_to(peer)
    (directory / "peers" / f"{OURS}.sh").symlink_to(SOURCE / "tests/bench/peer.sh")
    arguments, sys.argv = sys.argv, [str(directory / "mtabench")]
    harness = types.ModuleType("mtabench")
    exec(compile((BENCH / "mtabench").read_text(), BENCH / "mtabench", "exec"), harness.__dict__)
    sys.argv = arguments
    return harness


def install(peer):
    """Makes a peer's root once; ours gets what was built now."""
    made = pathlib.Path(peer.root) / "opt/.made-by-bench"
    if peer.name == OURS or not made.exists():
        print(f"installing {peer.name}", flush=True)
        peer.verb("install")
        made.parent.mkdir(exist_ok=True)
        made.touch()


class Figures:
    """What was measured: figure, peer, values of the rounds."""

    def __init__(self, peers):
        self.peers = peers
        self.values = {}
        self.better = {}
        self.failed = []

    def add(self, figure, peer, value, more_is_better):
        self.better[figure] = more_is_better
        self.values.setdefault(figure, {}).setdefault(peer, []).append(float(value))

    def medians(self, figure):
        """{peer: median of its rounds}"""
        return {peer: statistics.median(values) for peer, values in self.values.get(figure, {}).items()}

    def ratio(self, figure, peer):
        """How many times better than that peer ours is; None if one of them was not measured, or the worse is nothing."""
        ours, other = (self.medians(figure).get(p) for p in (OURS, peer))
        if ours is None or other is None:
            return None
        over, under = (ours, other) if self.better[figure] else (other, ours)
        return over / under if under else None

    def expect(self, figure, times):
        """Says that it failed where ours is less than so many times as good as the best peer."""
        for peer in self.peers:
            ratio = self.ratio(figure, peer)
            if peer != OURS and ratio is not None and ratio < times:
                self.failed.append(f"{figure}: {ratio:.2f} times as good as {peer}, which is below {times}")

    def print(self):
        others = [p for p in self.peers if p != OURS]
        print(f"\n{'':<72}{OURS:>10}" + "".join(f"{p:>10}{'ratio':>7}" for p in others))
        for figure in self.values:
            median = self.medians(figure)
            line = f"{figure:<72}" + (f"{median[OURS]:>10.4g}" if OURS in median else f"{'-':>10}")
            for p in others:
                ratio = self.ratio(figure, p)
                line += (f"{median[p]:>10.4g}" if p in median else f"{'-':>10}") + (f"{'-':>7}" if ratio is None else f"{ratio:>7.1f}")
            print(line)
        print("ratio: how many times better than that peer")
        for text in self.failed:
            print(f"FAILED: {text}")


def measure(name, peers, run):
    """Calls run(harness, figures) where there is a harness, and prints what it has measured."""
    if os.getuid() or not BENCH.is_dir():
        sys.exit(f"{name}: not measured: it takes root, and the harness in {BENCH}")
    os.environ["TAMBO_SOURCE"] = str(SOURCE)
    os.environ["TAMBO_BUILD"] = str((SOURCE / os.environ.get("BUILD", "build")).resolve())
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tambo-bench-"))
    figures = Figures(peers)
    try:
        run(load_harness(directory), figures)
    finally:
        figures.print()
        shutil.rmtree(directory)
        stores = os.path.join(os.environ.get("B_STATE", "/tmp/mtabench"), "stores")
        subprocess.run(["rm", "-rf", stores], check=True)
