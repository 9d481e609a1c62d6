"""Image folders: class folders in the folders of splits, or class folders alone."""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from nascli.data.folders.index import (
    ImageIndex,
    Named,
    SplitChoice,
    SplitRequest,
    build_index,
    choose_splits,
    list_names,
    name_class,
)
from nascli.data.folders.labels import find_metadata, scan_tables
from nascli.data.folders.layout import (
    Layout,
    check_folder,
    describe_content_of,
    find_layout,
    refuse_unsorted,
    skip_level,
)
from nascli.data.folders.recognize import recognize_boxes
from nascli.data.folders.split_names import find_role
from nascli.data.images.walk import ImageWalk, Listing
from nascli.data.issues import Issue, IssueLog
from nascli.errors import InputError
from nascli.text import nfc


def scan_folder(folder: Path, request: SplitRequest | None = None) -> ImageIndex[Path]:
    """List an image folder: `train/<class>/*` beside `val/<class>/*`, or `<class>/*`, or what its `metadata.csv` lists.

    Raises:
        InputError: It is not there, not laid out so, a class has no images, or `val/` has a class that `train/` has
            not; the message says what was found instead.
    """
    check_folder(folder)
    try:
        if metadata := find_metadata(folder):
            return scan_tables(folder, metadata, request)
        return _FolderScan(folder, request or SplitRequest()).index()
    except InputError as error:
        error.file = error.file or str(folder)
        if boxes := recognize_boxes(folder):
            raise boxes from error
        raise


@dataclass
class _FolderScan:
    """One reading of a folder; `raw_names` has the name on disk of each class that was met."""

    folder: Path
    request: SplitRequest
    log: IssueLog = field(default_factory=IssueLog)
    loose: list[Path] = field(default_factory=list)
    raw_names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.walk = ImageWalk(self.folder)

    def index(self) -> ImageIndex[Path]:
        """Everything in the splits that are asked for."""
        layout = find_layout(self.walk, self.folder, self.request, self.log)
        if not layout.splits and (boxes := recognize_boxes(layout.root)):
            raise boxes
        choice = self._choose(layout)
        train: list[Named] = []
        if choice.train is not None:
            train = self._read_split(layout.splits.get(choice.train, layout.root), (), whole=True)
        val = None
        if choice.val is not None:
            place = layout.splits.get(choice.val, layout.root)
            val = self._read_split(place, {name for _, name in train}, whole=False)
            if not val:
                refuse_unsorted(place, 0)
        issues = [*self.walk.issues, *self.log.issues]
        if self.loose:
            first = self.loose[0].relative_to(self.folder)
            issues.append(Issue("image in no class folder", len(self.loose), str(first)))
        return build_index(layout.root, train, val, choice, self.request, issues)

    def _choose(self, layout: Layout) -> SplitChoice:
        """Choose the splits; one whose images are in no class folder is of no use."""
        listings = {name: self.walk.look_into(place) for name, place in (layout.splits or {"": layout.root}).items()}
        unsorted = [name for name, listing in listings.items() if not listing.folders]
        names = list(layout.splits)
        if not names:
            self._check_flat(layout.root, listings[""])
        elif self.request.val_fraction:
            names = [name for name in names if name not in unsorted or find_role(name) == "train"]
        choice = choose_splits(layout.root, names, self.request)
        if choice.val in unsorted:
            others = [name for name in names if name not in unsorted and find_role(name) != "train"]
            ways = [f"--val-split {others[0]}"] if others else ["--val-fraction 0.2"]
            way = "" if self.request.measured and not others else f", or leave them out by {ways[0]}"
            refuse_unsorted(layout.splits[str(choice.val)], len(listings[str(choice.val)].images), way)
        return choice

    def _check_flat(self, root: Path, listing: Listing) -> None:
        """Refuse a folder without splits that holds no classes, or that is a split itself."""
        if not listing.folders:
            refuse_unsorted(root, len(listing.images))
        if len(listing.folders) == 1 and not self.request.measured:
            only = listing.folders[0]
            if not self.walk.find_below(only):
                refuse_unsorted(only, 0)
            raise InputError(
                f"data set {root} holds one class folder, {only.name!r}, and no splits", "A data set has two classes"
            )
        above = root.resolve()
        role = find_role(above.name)
        if role and not self.request.val_fraction and not self.request.measured:
            inside = {each.name: find_role(each.name) for each in above.parent.iterdir() if os.path.isdir(each)}
            if beside := sorted(name for name, other in inside.items() if other not in (None, role)):
                raise InputError(
                    f"data set {root} is one split of a data set: {beside[0]} lies beside it",
                    f"Give the folder that holds both: folder:{above.parent}",
                )

    def _read_split(self, place: Path, classes: Collection[str], *, whole: bool) -> list[Named]:
        """The images of a split, class by class; `whole` refuses a class folder without any."""
        self.walk.begin_split(place)
        listing = skip_level(self.walk, place, set(classes), self.log)
        if not listing.folders:
            refuse_unsorted(place, len(listing.images))
        folders = self.walk.select_new(listing.folders)
        self.loose += listing.images
        found: list[Named] = []
        empty: list[Path] = []
        seen: dict[str, Path] = {}
        for folder in sorted(folders, key=lambda each: (name_class(each.name), each.name)):
            name = name_class(folder.name)
            self._compare(name, seen.setdefault(name, folder).name, folder)
            inside = self.walk.find_below(folder)
            found += [(path, name) for path in inside]
            if not inside:
                empty.append(folder)
        if empty and whole:
            more = "" if len(empty) == 1 else f"; so it is in {list_names([each.name for each in empty])}"
            raise InputError(
                f"data set folder {empty[0]}: there are no images in it{describe_content_of(empty[0])}{more}",
                "Put images there, or remove the folder: it would be a class",
            )
        return found

    def _compare(self, name: str, first: str, folder: Path) -> None:
        """Count a class folder whose name is that of another one in another Unicode form."""
        known = self.raw_names.setdefault(name, first)
        if folder.name != known and nfc(folder.name) == nfc(known):
            self.log.add("class name in another Unicode form", f"{folder.relative_to(self.folder)} is {name!r}")
