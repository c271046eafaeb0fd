"""Open a notebook in JupyterLab or Notebook 7 in Chromium, and run it, as a reader does."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
from jupyter_server.serverapp import list_running_servers

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SETTINGS = {
    # All cells are in the page, not only those in view.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},  # else it asks, on top of the notebook
    "@jupyterlab/apputils-extension/themes": {"adaptive-theme": True},  # light or dark as the browser says
}
# What JavaScript knows of the notebook. The page does not show it all: a folded cell has no count.
NOTEBOOK = "window.jupyterapp?.shell.currentWidget"
IDLE = f"{NOTEBOOK}?.sessionContext?.isReady && {NOTEBOOK}.sessionContext.session?.kernel?.status === 'idle'"
CODE = f"{NOTEBOOK}.content.widgets.map(it => it.model).filter(it => it.type === 'code')"
EXECUTED = f"{CODE}.every(it => it.executionCount)"
ERRORS = f"{CODE}.flatMap(it => it.outputs.toJSON()).filter(it => it.output_type === 'error')"


class Server(NamedTuple):
    url: str
    token: str
    folder: Path  # what it serves: copies of notebooks/ and reptile_helpers/


@contextmanager
def jupyter_server(folder):
    """A Jupyter server that has all its files in `folder`: settings, kernels and notebooks, none of the user's."""
    for part in ("notebooks", "reptile_helpers"):
        shutil.copytree(ROOT / part, folder / "files" / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name, values in SETTINGS.items():
        file = folder / "config" / "lab" / "user-settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    environment = {"REPTILE_DATA": str(ROOT / "data"), **os.environ, "OMP_NUM_THREADS": "1"}
    environment |= {f"JUPYTER_{part.upper()}_DIR": str(folder / part) for part in ("config", "data", "runtime")}
    environment["IPYTHONDIR"] = str(folder / "ipython")
    exposed = [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as free:  # two servers that look for one by themselves can take the same
        port = f"--ServerApp.port={free.getsockname()[1]}"
    root = f"--ServerApp.root_dir={folder / 'files'}"
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", root, port, *exposed]
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not (running := list(list_running_servers(folder / "runtime"))):
            if process.poll() is not None:
                raise RuntimeError(f"The Jupyter server did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        yield Server(running[0]["url"], running[0]["token"], folder / "files")
    finally:
        process.terminate()  # and its kernels
        process.wait()


def write_notebook(server, name, cells):
    """Make notebooks/<name>.ipynb of code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else JupyterLab asks
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), server.folder / "notebooks" / f"{name}.ipynb"
    )


@contextmanager
def chromium():
    """Playwright's Browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without a sandbox, because root cannot have one; it shows nothing but our notebooks.
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def is_ours(message):
    """Is it an error of a notebook? What Jupyter cannot load is not; a picture of a notebook is under /files/."""
    of_jupyter = message.text.startswith("Failed to load resource") and "/files/" not in message.location["url"]
    return message.type == "error" and not of_jupyter


@contextmanager
def new_page(browser, **options):
    """A page that ends in an AssertionError if JavaScript failed in it. options: of Playwright's `Browser.new_page`."""
    page = browser.new_page(**({"viewport": {"width": 1200, "height": 1000}} | options))
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(error.stack or str(error)))
    page.on("console", lambda message: is_ours(message) and page.errors.append(f"{message.text} {message.location}"))
    page.set_default_timeout(180_000)  # on a busy machine
    page.set_default_navigation_timeout(120_000)
    yield page
    page.close()
    assert not page.errors, "\n".join(page.errors)


def open_and_run(page, server, name, app="lab", theme="light", timeout=1200):
    """Open notebooks/<name>.ipynb without its stored outputs and run all cells. A cell that fails is an AssertionError.

    app: "lab" or "notebook". theme: "light" or "dark". timeout: seconds. The kernels of notebooks opened before end.
    """
    authorization = {"Authorization": f"token {server.token}"}
    for session in page.request.get(f"{server.url}api/sessions", headers=authorization).json():
        page.request.delete(f"{server.url}api/sessions/{session['id']}", headers=authorization)
    file = server.folder / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # so that an output and a count in the page come from this run
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, file)

    page.emulate_media(color_scheme=theme)
    place = {"lab": "lab/tree", "notebook": "notebooks"}[app]
    page.goto(f"{server.url}{place}/notebooks/{name}.ipynb?reset&token={server.token}")
    page.wait_for_function(IDLE, timeout=180_000, polling=250)  # the kernel starts
    assert page.locator(".jp-CodeCell").count() == len(code)
    # Not ours: none of our code has run yet. Notebook 7.6 fails at its own shortcuts, and badges need a network.
    page.errors.clear()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(f"{IDLE} && ({EXECUTED} || {ERRORS}.length)", timeout=1000 * timeout, polling=250)
    errors = page.evaluate(ERRORS)
    assert not errors, f"{errors[0]['ename']}: {errors[0]['evalue']}"
