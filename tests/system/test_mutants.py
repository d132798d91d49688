"""The wrong programs by which `make crash-mutants` and `make faults-mutants` are tried, which nobody builds for months."""
import subprocess

import pytest

from conftest import SOURCE

PATCHES = sorted(SOURCE.glob("tests/*/mutants/*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: f"{patch.parts[-3]}-{patch.stem}")
def test_a_mutant_can_be_made(patch):
    """Its patch applies to the sources of today."""
    done = subprocess.run(["patch", "--dry-run", "--batch", "-p1", "-d", SOURCE, "-i", patch], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
