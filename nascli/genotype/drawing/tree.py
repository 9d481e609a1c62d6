"""A genotype as lines of styled text, which the command line shows as a tree."""

from dataclasses import dataclass, field


@dataclass
class Line:
    """A line of text in pieces, each with a style: "", "bold", "dim" or a color of the terminal."""

    spans: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, style: str = "") -> "Line":
        """Append a piece of text; the line itself comes back, so that calls can be chained."""
        self.spans.append((text, style))
        return self

    @property
    def plain(self) -> str:
        """The text without its styles."""
        return "".join(text for text, _ in self.spans)


@dataclass(frozen=True)
class Branch:
    """A part of a genotype under its caption."""

    caption: str
    lines: tuple[Line, ...]
