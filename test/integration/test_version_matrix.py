"""A pair of versions each day of those that test/version-matrix takes all of."""
import pytest

from support.matrix import move

pytestmark = pytest.mark.turns(3)


@pytest.mark.parametrize("versions", [(13, 15), (13, 18), (15, 18)], ids=lambda v: f"{v[0]}to{v[1]}")
def test_moved_by_the_service(versions, tmp_path):
    assert move(*versions, tmp_path / "service").startswith("equal")
