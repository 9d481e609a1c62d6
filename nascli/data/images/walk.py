"""Images below a folder: what counts as one, what is passed over and why."""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nascli.data.images.formats import foreign_endings, image_endings, is_image_by_content, lacks_ending
from nascli.data.issues import Issue, IssueLog
from nascli.errors import InputError
from nascli.text import quote

HIDDEN = "hidden or service file or folder"
NO_IMAGE = "file that is no image"
FOREIGN = "image of a format that cannot be read here"
BY_CONTENT = "image without the ending of one"
RENAMED = "image with the ending of another kind"
REPEATED = "folder that links lead to again"
ABOVE = "link to a folder above"
DANGLING = "link that leads nowhere"
OWN = "folder of results of nascli"

_SYSTEM = {"/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"}
"""Folders of an operating system, which are nobody's data: looking through them takes minutes, or does not end."""
_MADE_UP = ("/proc/", "/sys/", "/dev/")
"""Folders of which no part is data either, but for memory that can be used as a disk."""
_MEMORY_DISK = "/dev/shm"

_SERVICE_NAMES = {
    *("__macosx", "icon\r", "network trash folder", "temporary items"),
    *("@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "lost+found", "__pycache__"),
    *("$recycle.bin", "recycler", "found.000", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}
"""Names, in small letters, of what operating systems, archives and disk stations leave in folders."""

_ARCHIVES = {
    (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar"): "tar -xf {file} -C {folder}",
    (".zip",): "unzip {file} -d {folder}",
    (".7z",): "7z x {file} -o{folder}",
    (".rar",): "unrar x {file} {folder}/",
}
"""The command that unpacks an archive, by endings."""


@dataclass(frozen=True)
class FoundImages:
    """Image files in order, and what was passed over or known by its content alone."""

    files: tuple[Path, ...]
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class Listing:
    """The images and the folders that lie directly in a folder, sorted."""

    images: tuple[Path, ...]
    folders: tuple[Path, ...]


class ImageWalk:
    """Lists folders below `root`, each real one once, and counts what it passes over.

    Names and files of the operating system, and hidden ones, are no part of anybody's data. Links are followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = IssueLog()
        self._others: Counter[str] = Counter()
        self._first_other = ""
        self._seen = {_identity(root)}
        self._listings: dict[Path, Listing] = {}

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Everything passed over so far, by kind."""
        if not self._others:
            return self._log.issues
        kinds = ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in self._others.most_common(5))
        more = " and others" if len(self._others) > 5 else ""
        example = f"{kinds}{more}; first: {self._first_other}"
        return *self._log.issues, Issue(NO_IMAGE, self._others.total(), example)

    def look_into(self, folder: Path) -> Listing:
        """The images and folders in a folder, without what lies deeper.

        Raises:
            InputError: It cannot be read.
        """
        if folder not in self._listings:
            self._listings[folder] = self._scan(folder)
        return self._listings[folder]

    def begin_split(self, folder: Path) -> None:
        """Forget the folders that were met before: those of a split may lie in another one, too, by links."""
        self._seen = {_identity(self.root), _identity(folder)}

    def select_new(self, folders: Iterable[Path]) -> list[Path]:
        """Those of the folders that were not met before, by links."""
        new = []
        for folder in folders:
            identity = _identity(folder)
            if identity in self._seen:
                self._log.add(REPEATED, f"{self._name(folder)} leads to {os.path.realpath(folder)}")
            else:
                self._seen.add(identity)
                new.append(folder)
        return new

    def find_below(self, folder: Path) -> list[Path]:
        """The images in a folder and in those below it, sorted.

        Raises:
            InputError: It cannot be read, or belongs to the operating system.
        """
        refuse_system(folder)
        self._seen.add(_identity(folder))
        listing = self.look_into(folder)
        found, waiting = [*listing.images], self.select_new(listing.folders)
        while waiting:
            listing = self.look_into(waiting.pop())
            found += listing.images
            waiting += self.select_new(listing.folders)
        return sorted(found)

    def _scan(self, folder: Path) -> Listing:
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # no fault of the folder
            raise InputError(f"folder {folder} cannot be read: {error.strerror}", "Allow reading it") from error
        images: list[Path] = []
        folders: list[Path] = []
        for entry in entries:
            if is_service_name(entry.name):
                self._log.add(HIDDEN, self._name(entry.path))
            elif is_folder(entry):
                if _holds_runs(entry.path):
                    self._log.add(OWN, self._name(entry.path))
                elif entry.is_symlink() and (leads_above(entry.path, self.root) or is_system(entry.path)):
                    self._log.add(ABOVE, f"{self._name(entry.path)} leads to {os.path.realpath(entry.path)}")
                else:
                    folders.append(folder / entry.name)
            elif self._is_image(entry):
                images.append(folder / entry.name)
        return Listing(tuple(images), tuple(folders))

    def _is_image(self, entry: "os.DirEntry[str]") -> bool:
        ending = os.path.splitext(entry.name)[1].lower()
        if ending in image_endings() and (entry.is_symlink() or entry.is_file()):
            return True  # decoding says that a link leads nowhere
        if not os.path.isfile(entry.path):
            self._log.add(DANGLING, self._name(entry.path)) if entry.is_symlink() else self._pass_over(entry, "no file")
        elif ending in foreign_endings():
            self._log.add(FOREIGN, self._name(entry.path))
        elif is_image_by_content(Path(entry.path)):
            unnamed = lacks_ending(entry.name)
            self._log.add(BY_CONTENT if unnamed else RENAMED, self._name(entry.path))
            return unnamed
        else:
            self._pass_over(entry, ending)
        return False

    def _pass_over(self, entry: "os.DirEntry[str]", ending: str) -> None:
        self._others[ending] += 1
        self._first_other = self._first_other or self._name(entry.path)

    def _name(self, path: Path | str) -> str:
        return os.path.relpath(path, self.root)


def find_images(paths: Sequence[Path]) -> FoundImages:
    """The image files of these files and folders, at every depth, in order; none is decoded.

    A file that is given by name may have any name.

    Raises:
        InputError: A path does not exist, is an archive, or is a folder without an image; the message says what is in
            it instead.
    """
    found: list[Path] = []
    issues: list[Issue] = []
    for path in paths:
        if os.path.isdir(path):
            walk = ImageWalk(path)
            inside = walk.find_below(path)
            if not inside:
                raise InputError(f"{path}: there is no image in this folder{describe_rest(walk.issues)}")
            found += inside
            issues += walk.issues
        elif os.path.isfile(path):
            refuse_archive(path)
            found.append(path)
        else:
            raise InputError(f"image {path}: {describe_absence(path)}")
    return FoundImages(tuple(found), join_issues(issues))


def leads_above(link: Path | str, root: Path) -> bool:
    """Whether a link leads to a folder that holds `root`: half of the disk may be in it, and the root again."""
    target, inner = os.path.realpath(link), os.path.realpath(root)
    return target != inner and os.path.commonpath((target, inner)) == target


def is_system(folder: Path | str) -> bool:
    """Whether a folder, with links resolved, is the whole disk or belongs to the operating system."""
    place = os.path.realpath(folder)
    return place in _SYSTEM or (place.startswith(_MADE_UP) and not (place + os.sep).startswith(_MEMORY_DISK + os.sep))


def refuse_system(folder: Path) -> None:
    """InputError where a folder is the whole disk, or belongs to the operating system."""
    if is_system(folder):
        named = f"{folder}" if (place := os.path.realpath(folder)) == str(folder) else f"{folder}, which is {place}"
        raise InputError(
            f"{named}: this folder belongs to the operating system, and is not searched for images",
            "Give the folder of the data set itself",
            file=folder,
        )


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself, at which `entry.is_dir` raises, is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_service_name(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to an operating system."""
    return name.startswith(".") or name.lower() in _SERVICE_NAMES


def join_issues(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    """One issue per kind: counts added, the first example kept."""
    joined: dict[str, Issue] = {}
    for each in issues:
        known = joined.get(each.kind)
        joined[each.kind] = Issue(each.kind, each.count + known.count, known.first) if known else each
    return tuple(joined.values())


def describe_rest(issues: Iterable[Issue]) -> str:
    """The end of a message about a folder without images: what lies in it instead."""
    rest = "; ".join(f"{each.count:,} × {each.kind}, {each.first} ({each.remedy})" for each in issues)
    return f", but {rest}" if rest else " or below it"


def describe_absence(path: Path, what: str = "file or folder") -> str:
    """The reason why nothing can be read at a path, in words; `what` was looked for."""
    if os.path.islink(path):
        return f"this link leads nowhere, to {os.readlink(path)}"
    if os.path.exists(path):
        return "it is neither a file nor a folder"
    missing = next((parent for parent in reversed(path.parents) if not os.path.exists(parent)), None)
    return f"no such {what}" + (f" ({missing} is missing already)" if missing else "")


def refuse_archive(path: Path) -> None:
    """InputError, with the command that unpacks it, where a path is an archive."""
    for endings, command in _ARCHIVES.items():
        for ending in endings:
            if path.name.lower().endswith(ending):
                folder = path.parent / (path.name[: -len(ending)].strip(".") or "unpacked")
                made = command.format(file=quote(path), folder=quote(folder))
                before = "" if os.path.isdir(folder) or not command.startswith("tar") else f"mkdir {quote(folder)} && "
                raise InputError(f"{path} is an archive", f"Unpack it by {before}{made} and give {folder}")


def _holds_runs(folder: str) -> bool:
    """Whether a folder is a run of nascli, or the folder of all runs."""
    marks = ("run.json", "train/latest", "search/latest", "detect/latest")
    return any(os.path.lexists(os.path.join(folder, mark)) for mark in marks)


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino
