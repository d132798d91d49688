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

    def expect(self, figure, times):
        """Says that it failed where ours is below so many times the best peer's; more is better."""
        ours, *others = [self.medians(figure).get(p, 0) for p in (OURS, *(p for p in self.peers if p != OURS))]
        if ours and ours < times * max(others, default=0):
            self.failed.append(f"{figure}: {ours:.4g}, which is below {times} times {max(others):.4g}")

    def print(self):
        others = [p for p in self.peers if p != OURS]
        print(f"\n{'':<72}{OURS:>10}" + "".join(f"{p:>10}{'ratio':>7}" for p in others))
        for figure in self.values:
            median = self.medians(figure)
            line = f"{figure:<72}" + (f"{median[OURS]:>10.4g}" if OURS in median else f"{'-':>10}")
            for p in others:
                line += f"{median[p]:>10.4g}" if p in median else f"{'-':>10}"
                if p in median and OURS in median:
                    over, under = (median[OURS], median[p]) if self.better[figure] else (median[p], median[OURS])
                    line += f"{over / under:>7.1f}" if under else f"{'-':>7}"
                else:
                    line += f"{'-':>7}"
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
