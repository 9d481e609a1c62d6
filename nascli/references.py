"""Networks that are named, and lie in no folder of the user's: on the hub, `hf:ORG/NAME`, or in the zoo, `zoo:NAME`."""

from collections.abc import Callable
from pathlib import Path

from nascli import hub, zoo


def is_reference(text: str) -> bool:
    """Whether a text names a network of the hub or of the zoo."""
    return text.startswith((hub.PREFIX, zoo.PREFIX))


def locate(word: str, note: Callable[[str], None] = lambda text: None) -> Path:
    """The place that a word of the user means: what a reference names, else the path that it is.

    Args:
        note: Called with the commit of what the hub's cache has, and with the file where it is another tool's.

    Raises:
        InputError: The zoo has no such network; or as from `nascli.hub.download`.
        CorruptFileError: As from `nascli.hub.download`.
    """
    if word.startswith(zoo.PREFIX):
        return zoo.find_trained(word)
    if not word.startswith(hub.PREFIX):
        return Path(word)
    fetched = hub.download(word)
    file = f"{fetched.path.name}, " if fetched.path.is_file() else ""
    note(f"{word}: {file}commit {fetched.commit[:12]}")
    return fetched.path
