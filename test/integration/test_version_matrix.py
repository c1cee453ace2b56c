"""A pair of versions each day of those that test/version-matrix takes all of, to a server of either kind."""
import pytest

from support.matrix import move

pytestmark = pytest.mark.turns(6)


@pytest.mark.parametrize("versions, kind", [((13, 15), "existing"), ((13, 18), "created"), ((15, 18), "existing"),
                                            ((13, 15), "created"), ((13, 18), "existing"), ((15, 18), "created")],
                         ids=lambda v: v if isinstance(v, str) else f"{v[0]}to{v[1]}")
def test_moved_by_the_service(versions, kind):
    assert move(*versions, kind).startswith("equal")
