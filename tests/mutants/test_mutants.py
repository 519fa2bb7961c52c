"""The laws kill every wrong variant of the contract."""

import pytest

from tests.mutants.__main__ import judge
from tests.mutants.variants import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_laws_kill(variant: str) -> None:
    assert judge(variant) is not None, VARIANTS[variant].__doc__
