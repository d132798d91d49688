#!/usr/bin/python3
"""Escape: what each program could do if it was taken over, seen by trying. See README.md.

    escape.py [-l] [-w] [PROGRAM...]

Makes a server with real users, looks at each program (or those whose lines in SECURITY begin so), and compares what it saw with
those lines; exit code 3 if they say something else. -w: they are written. -l: every attempt is said."""
import argparse
import ctypes
import difflib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from attempts import KILLED, look  # noqa: E402
from conftest import SOURCE, pytest_configure, wait_for  # noqa: E402
from probe import need  # noqa: E402
from real_server import make_real_server  # noqa: E402
from stand_in import Gone, model_of  # noqa: E402
from world import ANY_USER, PLACES, World, is_shut_in  # noqa: E402

SECURITY = SOURCE / "SECURITY"
BEGIN, END = "(made by make escape, from here)\n", "(to here)\n"
EXIT_DIFFERENT = 3
LANDLOCK_ABI = 6  # that of the table: signals and abstract sockets
NAME = 26  # width of a program's name
# heading, width
FIELDS = (("program", NAME), ("user:group", 15), ("free", 4), ("memory", 7), ("reads", 25), ("writes", 41), ("asks", 36), ("touches", 41), ("more", 0))
MORE = ("network", "runs", "forks", "kernel")  # columns of a Row that share a field


def lacks():
    """What this machine lacks, so that the table would be another one; "" if nothing."""
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < LANDLOCK_ABI:  # landlock_create_ruleset, asking for its version
        return f"this kernel has no Landlock of ABI {LANDLOCK_ABI}"
    if "Seccomp_filters" not in pathlib.Path("/proc/self/status").read_text():
        return "this kernel has no filters of system calls"
    return ""


def model_at(pid, name, has_to_be_shut_in):
    if has_to_be_shut_in:
        wait_for(lambda: is_shut_in(pid), what=f"{name} to be shut in")
    return model_of(pid)


def row_of(world, name, again=2):
    """Brings a program to its place, looks, and lets it go on. One that ends before it could be forked is looked for again."""
    place, has_to_be_shut_in = PLACES[name]
    try:
        with place(world) as pid, model_at(pid, name, has_to_be_shut_in) as model:
            return look(model, world, pid, name)
    except (Gone, FileNotFoundError, ProcessLookupError):  # the latter of its files in /proc
        if not again:
            raise
        return row_of(world, name, again - 1)


def rows(names, say=lambda row: None):
    """A Row of each program, and of what belongs to any user first: what the others are compared with."""
    found = []
    need()
    with make_real_server() as server, World(server) as world:
        for name in [ANY_USER, *(n for n in names if n != ANY_USER)]:
            found.append(row_of(world, name))
            say(found[-1])
    return found


# --- the table -------------------------------------------------------------------------------------------------------------------

def line_of(row, anybody):
    """A line of the table. A program that may all that any user's program may has "yes", and only the rest is said."""
    is_free = all(set(anybody.words[column]) <= set(row.words[column]) for column in anybody.words)
    given = anybody.words if is_free and row is not anybody else {column: [] for column in row.words}
    words = {column: [w for w in row.words[column] if w not in given[column]] for column in row.words}
    cells = [row.name, row.user, "yes" if is_free else "no", *(" ".join(words[c]) for c in ("memory", "reads", "writes", "asks", "touches")),
             " ".join(w for column in MORE for w in words[column])]
    return cut(cells)


def cut(cells):
    return "".join(f"{cell or '-':{width}} " if width else cell or "-" for cell, (_, width) in zip(cells, FIELDS)).rstrip() + "\n"


def lines_of(found):
    """{program: (line of the table, line of what it has open)}"""
    return {row.name: (line_of(row, found[0]), f"  {row.name:{NAME}} {', '.join(row.holds) or '-'}\n") for row in found}


def section(lines):
    """What stands in SECURITY between the marks."""
    table = cut([name for name, _ in FIELDS]) + cut(["-" * (width or 9) for _, width in FIELDS])
    return table + "".join(line for line, _ in lines.values()) + "\nOpen in them, beside /dev/null and the pipe to their log:\n" + \
        "".join(holds for _, holds in lines.values())


def parts(text):
    """What stands before the section, the section, and what stands behind it."""
    before, rest = text.split(BEGIN)
    inside, behind = rest.split(END)
    return before + BEGIN, inside, END + behind


def differences(found):
    """The lines in which SECURITY says something else about these programs than was seen. The first is not ours: what any user may do, the
    machine's own settings say, too; what the others may do beyond that is compared."""
    inside, said = parts(SECURITY.read_text())[1], {}
    for line in inside.splitlines(keepends=True):
        said.setdefault(line.removeprefix("  ")[:NAME].strip(), []).append(line)
    return "".join("".join(difflib.ndiff(said.get(name, []), list(seen))) for name, seen in [*lines_of(found).items()][1:]
                   if said.get(name) != list(seen))


def say_attempts(row):
    for column, word, way, got in row.tried:
        print(f"{row.name}: {column} {word}: {way}: {'yes' if got is True else 'ended by its filter' if got == KILLED else got}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-l", action="store_true", help="say every attempt")
    parser.add_argument("-w", action="store_true", help="write SECURITY")
    parser.add_argument("programs", nargs="*")
    options = parser.parse_args()
    if (lack := lacks()):
        sys.exit(lack)
    pytest_configure()
    names = [n for n in PLACES if not options.programs or n.startswith(tuple(options.programs))]
    if options.w and len(names) < len(PLACES):
        parser.error("-w needs all programs")
    found = rows(names, lambda row: print(f"{row.name}: {len(row.tried)} attempts", flush=True))
    if options.l:
        for row in found:
            say_attempts(row)
    print(section(lines_of(found)))
    if options.w:
        before, _, behind = parts(SECURITY.read_text())
        SECURITY.write_text(before + section(lines_of(found)) + behind)
    different = differences(found)
    if different:
        print(f"SECURITY says something else (-), or this is what should not be (+):\n{different}")
    return EXIT_DIFFERENT if different else 0


if __name__ == "__main__":
    sys.exit(main())
