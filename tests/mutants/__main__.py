"""`make mutants`: the laws against the real code, then against each wrong variant; a variant that survives is a missing test."""

import re
import subprocess
import sys

from tests.mutants.variants import VARIANTS

LAWS = ("tests/property", "tests/unit/test_refusal.py")


def judge(variant: str | None) -> str | None:
    """The first law that a variant breaks, or None if the laws hold. Without a variant: the code as it is."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin", *LAWS]
    done = subprocess.run(command + (["--variant", variant] if variant else []), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if failed is None:
        raise RuntimeError(f"the laws did not run:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return failed[1]


def main() -> int:
    """0 if the laws hold and kill every variant."""
    if law := judge(None):
        print(f"the code itself breaks {law}")
        return 1
    survivors = 0
    for name, variant in VARIANTS.items():
        law = judge(name)
        survivors += law is None
        print(f"{'SURVIVED' if law is None else 'killed  '} {(variant.__doc__ or name).strip():72} {law or ''}", flush=True)
    print(f"{len(VARIANTS) - survivors} of {len(VARIANTS)} wrong variants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
