# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of tests in a guest that has KVM: the checkout goes in as a disk, the reports come out as another one."""

from __future__ import annotations

import shlex
import subprocess
import tarfile
from pathlib import Path

from lab import base, disk_guest, guest_image

from ..paths import ROOT
from .image import Image, build

MEMORY_MIB = 6144
OUT_MIB = 64
BOOT_S = 120  # before and after the tests
SEEN = 400  # lines of its console that are shown where it failed
TREES = ("plugins", "roles", "lab", "tests", "native", "pyproject.toml")
# One CPU and one thread: with more, the kernel's patching of its own code races with TCG's translation of it.
# Fewer levels of page tables are walked faster.
MACHINE = "-nodefaults -no-user-config -display none -machine q35 -accel tcg,thread=single -cpu max,+svm,+npt,-la57 -smp 1 -no-reboot"
APPEND = "console=ttyS0 root=/dev/vda rw init=/plover-init quiet panic=1 mitigations=off no_timer_check"
TASK = """site=$(python3 -c 'import site; print(site.getsitepackages()[0])')
mkdir -p $site && python3 -m zipfile -e qmp.whl $site
export PLOVER_GUESTS=/src/guests PYTHONPATH=/src:/src/plugins/module_utils PYTHONUNBUFFERED=1
python3 -m compileall -q plugins/module_utils/plover  # once, and not by three daemons at once
exec timeout -k 20 {seconds} python3 -m lab.kvm.inside --seconds {limit} {name} {files}
"""


def run(name: str, files: list[str], seconds: int, folder: Path) -> dict[str, bytes]:
    """The files that the run left, by name. ``seconds``: of the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    image = build(name)
    task = TASK.format(seconds=seconds + 30, limit=seconds, name=name, files=shlex.join(files))
    _pack(folder / "in.tar", folder / "task", task, any("disks" in file for file in files))
    with open(folder / "out.tar", "wb") as out:
        out.truncate(OUT_MIB << 20)
    _boot(image, folder, seconds + 2 * BOOT_S)
    reports = _reports(folder / "out.tar")
    for name_of_disk in ("in.tar", "out.tar"):
        (folder / name_of_disk).unlink()
    return reports


def _pack(archive: Path, task: Path, text: str, with_disk: bool) -> None:
    """Everything that the guest gets, as it is in this checkout."""
    task.write_text(text)
    (wheel,) = (path for path in base.wheels().iterdir() if path.name.startswith("qemu"))
    more = {"task": task, "qmp.whl": wheel, **_placed(guest_image.build().kernel.parent)}
    if with_disk:
        more |= _placed(disk_guest.build().image.parent)
    with tarfile.open(archive, "w") as tar:
        for tree in TREES:
            tar.add(ROOT / tree, tree, filter=lambda entry: None if "__pycache__" in entry.name else entry)
        for place, path in more.items():
            tar.add(path.resolve(), place)


def _placed(guest: Path) -> dict[str, Path]:
    """A guest of the cache, where the tests look for it (lab.guest_image.ready)."""
    return {f"guests/{guest.name.rpartition('-')[0]}/{path.name}": path for path in guest.iterdir()}


def _boot(image: Image, folder: Path, seconds: int) -> None:
    words = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *MACHINE.split(), "-m", str(MEMORY_MIB)]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    words += ["-append", APPEND, "-serial", f"file:{folder}/console.txt"]
    for n, (path, options) in enumerate(((image.disk, "snapshot=on"), (folder / "in.tar", "readonly=on"), (folder / "out.tar", ""))):
        words += ["-drive", f"file={path},if=none,id=d{n},format=raw,cache=unsafe,{options}".rstrip(",")]
        words += ["-device", f"virtio-blk-pci,drive=d{n}"]
    (folder / "console.txt").unlink(missing_ok=True)
    try:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=seconds)
    except subprocess.SubprocessError as error:
        raise SystemExit(f"the guest with KVM: {type(error).__name__} after {seconds} s at most; {console(folder)}") from error


def console(folder: Path) -> str:
    """The end of what the guest printed: pytest's words."""
    path = folder / "console.txt"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join([f"the end of {path}:", *lines[-SEEN:]])


def _reports(archive: Path) -> dict[str, bytes]:
    """The files in the guest's third disk, by name; none if it wrote nothing there."""
    try:
        with tarfile.open(archive) as tar:
            found = {Path(entry.name).name: tar.extractfile(entry) for entry in tar if entry.isfile()}
            return {name: file.read() for name, file in found.items() if file}
    except tarfile.TarError:
        return {}
