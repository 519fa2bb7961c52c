"""`make mutants`: the laws against the real code, then against each wrong variant of the contract; and histories of the simulation against
each wrong variant of the runtime. A variant that survives is a missing test."""

import re
import subprocess
import sys

from tests.mutants.variants import VARIANTS
from tests.simulation.histories import be_quiet
from tests.simulation.judge import SCENES, find_killer, play_scene
from tests.simulation.template import drop_template, make_template
from tests.simulation.variants import VARIANTS as OF_RUNTIME

LAWS = ("tests/unit/test_refusal.py", "tests/property")  # the quickest first


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
    killers = [tell(variant.__doc__ or name, judge(name)) for name, variant in VARIANTS.items()]
    killers += judge_runtime()
    killed = sum(each is not None for each in killers)
    print(f"{killed} of {len(killers)} wrong variants killed")
    return 0 if killed == len(killers) else 1


def judge_runtime() -> list[str | None]:
    """The same for the runtime: what the scenes leave of the code as it is, then which history catches each variant."""
    be_quiet()
    template = make_template()
    try:
        for scene in SCENES.values():
            play_scene(scene, template)
        return [tell(variant.__doc__ or name, find_killer(name, template)) for name, variant in OF_RUNTIME.items()]
    finally:
        drop_template(template)


def tell(variant: str, killer: str | None) -> str | None:
    """One line about a variant; what killed it, again."""
    print(f"{'SURVIVED' if killer is None else 'killed  '} {' '.join(variant.split()):90} {killer or ''}", flush=True)
    return killer


if __name__ == "__main__":
    sys.exit(main())
