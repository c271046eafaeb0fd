"""Files: the folder that data are kept in, and a way to write a file that never leaves half of it."""

import os
import uuid
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write `content` to `path`, all of it or nothing.

    Whatever happens (a full disk, a power cut, a killed process, a second process that writes the same file), `path`
    is afterwards either the complete new file or exactly what it was before. The content goes to a hidden temporary
    file in the same folder, is forced to the disk, and only then renamed. A killed process may leave that hidden file
    behind; an error or an interrupt does not.

    Raises OSError (PermissionError, FileNotFoundError …) if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        before = "the previous file is unchanged" if path.exists() else "there is no previous file"
        problem = f"{error.strerror or error}: {path.name} cannot be written; {before}"
        raise OSError(error.errno, problem, str(path)) from error
    finally:
        with suppress(OSError):  # after the renaming, and on a read-only disk, there is nothing to remove
            temporary.unlink()


def find_data_root(root: str | os.PathLike | None = None) -> Path:
    """Return the folder that data are kept in, as an absolute path.

    This is `root` if it is given, otherwise the folder that the environment variable REPTILE_DATA names. If neither is
    given, it is `data/` in the repository, or `./data` where the package is installed and the current folder is not in
    the repository. Only such a default folder is created if it does not exist.

    Raises FileNotFoundError or NotADirectoryError if the folder that was given is not there or is a file,
    PermissionError if `data/` cannot be created, ValueError if `root` is not a path.
    """
    origin = "the data folder"
    if root is None and os.environ.get("REPTILE_DATA"):
        origin, root = "REPTILE_DATA", os.environ["REPTILE_DATA"]
    if root is None:
        root = _default_root()
    if not isinstance(root, str | os.PathLike):
        raise ValueError(f"root is {root!r}; it must be the path of a folder, or None")
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise FileNotFoundError(f"{origin} is {root}, which does not exist; create it, or give a folder that exists")
    if not root.is_dir():
        raise NotADirectoryError(f"{origin} is {root}, which is a file; give a folder")
    return root


def _default_root() -> Path:
    here = Path.cwd()
    repositories = filter(_is_repository, (Path(__file__).resolve().parents[1], here, *here.parents))
    root = next(repositories, here) / "data"
    if not root.exists():
        try:
            root.mkdir(exist_ok=True)  # another process may create it at the same time
        except OSError as error:
            problem = (
                f"the data folder {root} cannot be created ({error.strerror}); set REPTILE_DATA to a folder of yours"
            )
            raise PermissionError(problem) from error
    return root


def _is_repository(folder: Path) -> bool:
    """True for the repository of this project; a pyproject.toml alone may belong to anything, even in site-packages."""
    with suppress(OSError):
        return b'name = "reptile-helpers"' in (folder / "pyproject.toml").read_bytes()
    return False
