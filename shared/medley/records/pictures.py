"""The pictures that a job is made from."""

from pydantic import Field, NonNegativeFloat

from medley.records.base import Digest, InputName, Record


class Picture(Record):
    """An input picture: its bytes' digest, and what the dataset calls it."""

    sha256: Digest
    ext: str = Field(
        pattern=r"^[a-z0-9]{2,5}$", description="of the format that the bytes have, whatever the file's name"
    )
    name: str = Field(description="path below the dataset's root, with / on every system")
    label: str | None = Field(None, description="what people call it: artist and title, where a CSV has them")

    @property
    def input(self) -> InputName:
        """What its key in storage ends with."""
        return f"{self.sha256}.{self.ext}"


class Style(Picture):
    """A picture whose style is painted, with its share in a blend."""

    weight: NonNegativeFloat = 1.0
