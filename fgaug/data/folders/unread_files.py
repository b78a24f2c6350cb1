"""Report unsupported files among images: count them by extension and suggest a conversion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from fgaug.data.folders.companions import stem_of
from fgaug.data.problems import counted, listed

_DICOM = "DICOM"
_UNNAMED = "images without an extension"
# the kind of file by its extension, and how to get images out of it
_PICTURES: dict[str, tuple[str, str]] = {
    _DICOM: (
        ".dcm .dicom .ima .dc3",
        "Convert DICOM to PNG with the window that a reader would see, for example with "
        "`dcmj2pnm +on x.dcm x.png` of DCMTK, or with pydicom",
    ),
    "volumes": (
        ".nii .nii.gz .mha .mhd .nrrd .nhdr .mnc .mgz .hdr .img",
        "Export slices of volumes as PNG, for example with SimpleITK or 3D Slicer, and give all "
        "slices of a patient one group",
    ),
    "slides": (
        ".svs .ndpi .mrxs .scn .vms .czi .lif .nd2 .oib .vsi .bif",
        "Cut tiles from slides and save them as PNG, for example with OpenSlide, and give all "
        "tiles of a patient one group",
    ),
    "pictures": (
        ".heic .heif .hif .jxl .psd .xcf .svg .eps .exr .dng .cr2 .nef .arw .ico .ras .sgi",
        "Convert them to PNG, for example with ImageMagick: `magick x.heic x.png`",
    ),
    _UNNAMED: ("", "Rename PNG and JPEG files to end in .png or .jpg"),
}
_OTHERS: dict[str, tuple[str, str]] = {
    "videos": (
        ".avi .mp4 .mov .mkv .wmv .mpg .mpeg .m4v .webm",
        "Export their frames as PNG, with `ffmpeg -i x.avi x_%04d.png`, and give the frames of "
        "a patient one group",
    ),
    "arrays": (
        ".npy .npz .mat .h5 .hdf5 .tfrecord .tfrecords .lmdb .pkl",
        "Save the images in them as PNG",
    ),
    "archives": (
        ".zip .tar .tgz .gz .7z .rar .bz2 .xz",
        "Unpack them if they contain images",
    ),
}
_NOTES = (  # never opened: a dataset may have one per image
    ".txt .csv .tsv .json .xml .md .rst .pdf .xlsx .xls .ods .doc .docx .yaml .yml .html .htm "
    ".log .py .ipynb .m .r .sh .bat .db .ini .cfg .toml .bib .tex .lnk .url .md5 .sha256 "
    ".parquet .arrow .pt .pth .onnx .safetensors"
)
_KIND_OF = {
    ending: kind
    for kinds in (_PICTURES, _OTHERS)
    for kind, (endings, _) in kinds.items()
    for ending in endings.split()
}
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"BM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Unsupported files, split into images and others."""

    pictures: tuple[tuple[str, tuple[PurePath, ...]], ...]  # by kind
    copies: tuple[PurePath, ...]  # also present in a supported format
    others: tuple[tuple[str, tuple[PurePath, ...]], ...]  # videos, arrays, archives
    rest: tuple[PurePath, ...]  # notes, tables and other non-images
    hidden: int

    def problems(self) -> list[str]:
        """Return one line per kind of unsupported image."""
        return [
            f"{counted(len(files), 'image file')} {'is' if len(files) == 1 else 'are'} "
            f"not supported ({_by_ending(files)}): {listed(files)}. {_PICTURES[kind][1]}"
            for kind, files in self.pictures
        ]

    def notes(self) -> list[str]:
        """Return one line per kind of other file, and one for all files without images."""
        lines = [
            f"Not read: {kind} ({_by_ending(files)}): {listed(files)}. {_OTHERS[kind][1]}"
            for kind, files in self.others
        ]
        if self.copies:
            lines.append(
                f"Not read: {_by_ending(self.copies)}, each beside a supported image of the same "
                f"name: {listed(self.copies, 3)}"
            )
        quiet = [_by_ending(self.rest)] if self.rest else []
        quiet += [counted(self.hidden, "hidden file")] if self.hidden else []
        return [*lines, *([f"Not read: {', '.join(quiet)}"] if quiet else [])]


def sort_out(
    root: Path, files: Iterable[PurePath], *, read: Collection[PurePath], hidden: int = 0
) -> Unread:
    """Sort the unsupported files by kind.

    Args:
        root: the folder that contains them.
        files: relative to it; a file of unknown extension is opened.
        read: the supported images, relative to the root.
        hidden: number of hidden files.
    """
    beside: set[tuple[PurePath, str]] | None = None
    kinds: dict[str, list[PurePath]] = {}
    copies, rest = [], []
    for path in files:
        kind = kind_of(root / path)
        if kind is None:
            rest.append(path)
            continue
        if beside is None:
            beside = {(each.parent, stem_of(each).lower()) for each in read}
        if kind in _PICTURES and (path.parent, stem_of(path).lower()) in beside:
            copies.append(path)
        else:
            kinds.setdefault(kind, []).append(path)
    return Unread(
        pictures=tuple((kind, tuple(kinds[kind])) for kind in _PICTURES if kind in kinds),
        copies=tuple(copies),
        others=tuple((kind, tuple(kinds[kind])) for kind in _OTHERS if kind in kinds),
        rest=tuple(rest),
        hidden=hidden,
    )


def kind_of(path: Path) -> str | None:
    """Return the kind of image, video, array or archive that a file is, or None."""
    ending = ending_of(path)
    if ending in _KIND_OF:
        return _KIND_OF[ending]
    if ending and ending in _NOTES.split():
        return None
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return None
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return None
    if head[128:] == b"DICM":
        return _DICOM
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return _UNNAMED
    return None


def cure_of(path: Path) -> str | None:
    """Return how to convert an unsupported image file; None if it is not an image."""
    kind = kind_of(path)
    known = _PICTURES.get(kind or "") or _OTHERS.get(kind or "")
    return known[1] if known else None


def ending_of(path: PurePath) -> str:
    """Return the extension in lower case; the last part of a dotted DICOM id is not one."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    ending = PurePath(name).suffix
    return "" if ending[1:].isdigit() else ending


def _by_ending(files: Sequence[PurePath]) -> str:
    counts = Counter(ending_of(path) or "without extension" for path in files).most_common()
    return ", ".join(f"{count} {ending}" for ending, count in counts)
