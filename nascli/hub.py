"""Networks on the Hugging Face hub, through huggingface_hub: its cache, its tokens, its environment variables.

A reference is `hf:ORG/NAME`, with `@REVISION` for a branch, tag or commit, and `/FILE` for one file of several.
"""

import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.reading import open_file

PREFIX = "hf:"

OWN_FILES = ("network.json", "weights.safetensors")
"""The files that make a repository a network of nascli."""

RECIPE = "recipe.toml"
"""Fetched beside them where it is there: it says what the network was trained on."""

_REFERENCE = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?")
_WEIGHTS = ("model.safetensors", "*.safetensors", "pytorch_model.bin", "*.pth", "*.pt", "*.bin", "*.h5")
"""Names of files of weights, the preferred ones first; a file of safetensors holds nothing but tensors."""

_PARTS = re.compile(r"-\d{5}-of-\d{5}\.")
"""In the name of a file that holds a part of the weights; no image network is that large."""


@dataclass(frozen=True)
class Reference:
    """A model on the hub, as the user names it.

    Args:
        repo: `ORG/NAME`.
        revision: A branch, a tag or a commit; None is the main branch.
        file: One file of it; None leaves the choice to nascli.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """The reference in `hf:ORG/NAME[@REVISION][/FILE]`; InputError where it is none."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise InputError(f"{text!r} names no model on the hub", "Write hf:ORG/NAME, hf:ORG/NAME@REVISION or /FILE")
        return cls(**{name: found[name] for name in ("repo", "revision", "file")})

    def __str__(self) -> str:
        revision, file = self.revision and f"@{self.revision}", self.file and f"/{self.file}"
        return f"{PREFIX}{self.repo}{revision or ''}{file or ''}"


@dataclass(frozen=True)
class Download:
    """Files of the hub on this machine.

    Args:
        path: The folder of a network of nascli, else the file of another tool's weights.
        commit: The commit that they are of.
    """

    path: Path
    commit: str


def download(text: str) -> Download:
    """Fetch a network, or the one file of weights of another tool, unless the cache has it; check what is there.

    Without a connection the cache alone answers. A repository with `network.json` and `weights.safetensors` is a
    network of nascli; of another the file named in the reference is taken, else the only one of the preferred kind.

    Raises:
        InputError: huggingface_hub is not installed; or there is no such model, revision or file, or several files;
            or the hub cannot be reached, and the cache lacks it.
        CorruptFileError: A file is not the one that the hub has.
    """
    reference = Reference.parse(text)
    api = import_hub().HfApi(library_name="nascli")
    with _explaining(reference):
        found = _look_up(api, reference)
        chosen = _choose(reference, found.names)
        paths = [
            found.folder / name
            if found.folder
            else Path(api.hf_hub_download(reference.repo, name, revision=reference.revision))
            for name in chosen
        ]
        for path in paths:
            _check(path, reference)
    return Download(paths[0].parent if set(OWN_FILES) <= set(chosen) else paths[0], found.commit)


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Make a model of this name on the hub, if there is none, and write the files of a folder to it, in one commit.

    Returns:
        The address of the commit.

    Raises:
        InputError: huggingface_hub is not installed, or it has no token, or the token may not write there.
        NascliError: The hub cannot be reached.
    """
    api = import_hub().HfApi(library_name="nascli")
    reference = Reference.parse(PREFIX + repo)
    with _explaining(reference):
        api.create_repo(reference.repo, private=private or None, exist_ok=True)
        return str(api.upload_folder(repo_id=reference.repo, folder_path=folder, commit_message=message).commit_url)


def import_hub() -> Any:  # noqa: ANN401 - a module
    """huggingface_hub; InputError where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise InputError(f"the hub needs {error.name}, which is not installed", 'pip install "nascli[hub]"') from error
    return huggingface_hub


@dataclass(frozen=True)
class _Listing:
    """The files of a model; `folder` is the cache's where the hub cannot be asked."""

    names: Sequence[str]
    commit: str
    folder: Path | None = None


def _look_up(api: Any, reference: Reference) -> _Listing:  # noqa: ANN401 - of an optional package
    """The files that a model has; without a connection those that the cache has."""
    errors = import_hub().errors
    try:
        info = api.model_info(reference.repo, revision=reference.revision)
        return _Listing([each.rfilename for each in info.siblings], str(info.sha))
    except errors.HfHubHTTPError as error:
        if error.response.status_code < 500:  # the hub has answered
            raise
        reason: Exception = error
    except _unreachable_errors() as error:
        reason = error
    try:
        folder = Path(api.snapshot_download(reference.repo, revision=reference.revision, local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{reference}: the hub cannot be reached ({type(reason).__name__}), and the cache does not have it",
            "Fetch it once with a connection; HF_HUB_OFFLINE and HF_ENDPOINT must not stand in the way",
        ) from error
    return _Listing(
        [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()], folder.name, folder
    )


def _unreachable_errors() -> tuple[type[Exception], ...]:
    """Errors of a hub that does not answer; which library talks to it depends on huggingface_hub's version."""
    bases = import_hub().errors.HfHubHTTPError.__mro__
    return OSError, *(each for each in bases if each.__name__ == "HTTPError")


def _choose(reference: Reference, names: Sequence[str]) -> Sequence[str]:
    """The files to fetch."""
    if reference.file is not None:
        if reference.file not in names:
            raise InputError(f"{reference}: there is no such file; it has {_list(names)}")
        return [reference.file]
    if set(OWN_FILES) <= set(names):
        return [name for name in (*OWN_FILES, RECIPE) if name in names]
    for pattern in _WEIGHTS:
        found = fnmatch.filter(names, pattern)
        if len(found) > 1:
            raise InputError(
                f"{reference} has {len(found)} files of weights: {_list(found)}", f"Name one: {reference}/{found[0]}"
            )
        if found and not _PARTS.search(found[0]):
            return found
    raise InputError(f"{reference} holds no weights that nascli reads; it has {_list(names)}")


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "no files"


def _check(path: Path, reference: Reference) -> None:
    """CorruptFileError where a file in the cache is not what the hub gave: the name of the file behind it says that."""
    expected = path.readlink().name if path.is_symlink() else ""
    with open_file(path) as file:
        if re.fullmatch("[0-9a-f]{64}", expected):
            found = hashlib.file_digest(file, "sha256").hexdigest()
        elif re.fullmatch("[0-9a-f]{40}", expected):  # a small file: git's name of its content
            content = file.read()
            found = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
        else:
            return
    if found != expected:
        raise CorruptFileError(
            f"{path} is damaged: it is not the file that {reference} has", "Remove it, and fetch it again", file=path
        )


@contextmanager
def _explaining(reference: Reference) -> Iterator[None]:
    """Say in one line what the hub refuses."""
    errors = import_hub().errors
    try:
        yield
    except NascliError:
        raise
    except errors.GatedRepoError as error:
        hint = "Accept its terms on its page, and log in: hf auth login"
        raise InputError(f"{reference} is shown only to those who accepted its terms", hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "Look at its name; if it is private, log in: hf auth login"
        raise InputError(f"{reference}: the hub has no such model", hint) from error
    except errors.RevisionNotFoundError as error:
        hint = "Give one of its branches, tags or commits"
        raise InputError(f"{reference}: there is no revision {reference.revision}", hint) from error
    except errors.HFValidationError as error:
        raise InputError(f"{reference}: no possible name of a model", "Write it as on its page: ORG/NAME") from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{reference}: nobody is logged in", "hf auth login, or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            hint = "hf auth login with a token that may write, or set HF_TOKEN"
            raise InputError(f"{reference}: the hub refuses it (status {status})", hint) from error
        raise NascliError(f"{reference}: the hub answered with status {status}", "Try again later") from error
    except _unreachable_errors() as error:
        raise NascliError(f"{reference}: the hub cannot be reached ({type(error).__name__})", "Try again") from error
