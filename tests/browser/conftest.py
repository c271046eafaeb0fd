import pytest
from lab import CHROMIUM, chromium, jupyter_server, new_page


@pytest.fixture(scope="session")
def browser():
    """Chromium at the path in the environment variable CHROMIUM, or on the PATH; without one the tests are skipped."""
    pytest.importorskip("playwright", reason="playwright is not installed: install the extra 'browser'")
    if not CHROMIUM:
        pytest.skip("there is no chromium on the PATH, and the environment variable CHROMIUM names none")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with jupyter_server(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def page(browser):
    with new_page(browser) as page:
        yield page
