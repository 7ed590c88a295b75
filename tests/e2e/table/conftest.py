"""All rows run once; the tests of this folder judge what came of them."""
import pytest

from scene import Scene


@pytest.fixture(scope="package")
def scene(lab):
    made = Scene(lab)
    with made.stack:
        made.start()
        made.foretell()
        made.run()
        yield made
