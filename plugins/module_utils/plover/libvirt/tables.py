# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of libvirt's domain XML that plover_vms has no key for: why each can be left out, or why it stands in the way. Pure.

A new element of libvirt is a new line here; until then it stands in the way. A new key of plover_vms takes lines away.
"""

from __future__ import annotations

# Names that only tell libvirt something, and elements that other files of this room read.
SILENT = {"title", "description", "metadata", "alias", "privateData"}
READ = {"name", "uuid", "memory", "currentMemory", "maxMemory", "vcpu", "vcpus", "cpu", "os", "features", "devices", "clock"}
READ |= {"on_poweroff", "on_reboot", "on_crash"}
READ_DEVICES = {"disk", "interface", "emulator", "controller", "memory", "serial", "console", "rng", "panic"}

HOST_TUNING = "tuning for one host; each replica is a host of its own, and Plover's QEMU runs without it"
TOP_LEFT_OUT = {
    "memoryBacking": "Plover gives the guest's memory as a shared file on a tmpfs, in pages of the host's normal size",
    "memtune": HOST_TUNING,
    "numatune": HOST_TUNING,
    "cputune": HOST_TUNING,
    "blkiotune": HOST_TUNING,
    "iothreads": HOST_TUNING,
    "iothreadids": HOST_TUNING,
    "defaultiothread": HOST_TUNING,
    "throttlegroups": HOST_TUNING,
    "resource": HOST_TUNING,
    "seclabel": "Plover's QEMU has a user and an AppArmor profile of its own",
    "genid": "the guest sees no VM generation ID; it matters to a clone of a VM only",
    "sysinfo": "the guest sees QEMU's SMBIOS texts and fw_cfg entries in place of these; what reads a serial number there does not find it",
    "pm": "the guest may try to suspend",
    "perf": "counts events on the host only",
}
TOP_REFUSED = {
    "launchSecurity": "the guest's memory is encrypted, so no other host can have it; remove the element if the guest can do without",
    "bootloader": "is of a Xen guest; Plover runs guests of QEMU only",
    "bootloader_args": "is of a Xen guest; Plover runs guests of QEMU only",
    "idmap": "is of a container; Plover runs guests of QEMU only",
    "keywrap": "is of another architecture; Plover runs guests of x86_64 only",
}
NO_SCREEN = "the guest has no screen, keyboard, mouse or sound; it needs a serial console (console=ttyS0) or the network"
NO_USB = "the guest has no USB and no smart card"
DEVICES_LEFT_OUT = {
    "graphics": NO_SCREEN,
    "video": NO_SCREEN,
    "input": NO_SCREEN,
    "sound": NO_SCREEN,
    "audio": NO_SCREEN,
    "redirdev": NO_USB,
    "redirfilter": NO_USB,
    "hub": NO_USB,
    "smartcard": NO_USB,
    "parallel": "the guest has no parallel port",
    "channel": "the guest has no virtio-serial channel; a guest agent in it waits, and nothing asks it",
    "memballoon": "the guest has no balloon; it keeps all its memory",
    "watchdog": "the guest has no watchdog; nothing resets a guest that hangs",
    "vsock": "the guest has no vsock; the host reaches it by the network",
    "iommu": "the guest has no IOMMU",
    "crypto": "the guest has no virtio-crypto; it encrypts on its CPU",
}
DEVICES_REFUSED = {
    "hostdev": "is a device of one host, which the other host does not have; give the guest a virtual one in libvirt, and import it again",
    "filesystem": "shares a folder of one host, which is not copied to the other one; move its files to a disk of the guest or to a "
    "network file system",
    "tpm": "its contents are not copied to the other host; a guest that keeps keys in it does not start without. Remove it in libvirt if "
    "the guest does not use it",
    "shmem": "shares memory with other programs of one host, which the other host does not have; remove it in libvirt",
    "nvram": "is of another architecture; Plover runs guests of x86_64 only",
    "lease": "is a lock of libvirt's lock manager; Plover itself sees that one host alone writes. Remove it in libvirt",
    "pstore": "its contents are not copied to the other host; remove it in libvirt",
}
OS_LEFT_OUT = {
    "bootmenu": "the guest has no boot menu of the firmware",
    "bios": "the firmware's serial output and its reboot time-out are as QEMU has them",
    "smbios": TOP_LEFT_OUT["sysinfo"],
    "acpi": "the guest does not see this ACPI table; Windows may ask for its licence",
}
DISK_LEFT_OUT = {
    "iotune": "the disk has no limit of its speed",
    "wwn": "the guest sees no World Wide Name; name the disk in it by its serial number or its file system's UUID",
    "vendor": "the guest sees QEMU's vendor and product",
    "product": "the guest sees QEMU's vendor and product",
    "transient": "what the guest writes stays when it is off",
    "readonly": "the guest could write to it",
    "throttlefilters": "the disk has no limit of its speed",
    "iothread": HOST_TUNING,
}
DISK_REFUSED = {
    "encryption": "libvirt encrypts the image, and Plover has no key; encrypt in the guest, or decrypt the image with qemu-img convert",
    "auth": "needs a password of a storage server; copy the disk to an image file with qemu-img convert",
    "shareable": "another VM writes to it, too; a protected disk belongs to one VM",
    "mirror": "a copy of it is under way; wait for it or end it with 'virsh blockjob', and import the domain again",
    "geometry": "the guest would see another geometry; remove the element if the guest can do without",
}
DISK_READ = {"source", "driver", "target", "serial", "boot", "address", "backingStore", "blockio"} | SILENT
CARD_LEFT_OUT = {
    "mtu": "the TAP's MTU is that of its bridge",
    "bandwidth": "the card has no limit of its speed",
    "filterref": "libvirt's filter is not applied; Plover checks the sender of each frame, and nothing else (guest_spoof_check)",
    "driver": HOST_TUNING,
    "tune": HOST_TUNING,
    "coalesce": HOST_TUNING,
    "backend": HOST_TUNING,
    "rom": "the card has no boot ROM; the guest boots from its disk",
    "guest": "is of a container",
    "ip": "is of a container; the guest sets its addresses itself",
    "route": "is of a container; the guest sets its routes itself",
    "script": "Plover has scripts of its own for the TAP",
    "downscript": "Plover has scripts of its own for the TAP",
    "acpi": "the card has another index in ACPI; the guest may give it another name",
    "boot": "the guest does not boot from the network",
    "port": "other ports of the bridge can reach the guest",
}
CARD_REFUSED = {
    "vlan": "the guest's frames would not be in this VLAN; make a bridge of that VLAN on both hosts, and name it with --bridge",
    "virtualport": "the card is on a switch that is no bridge of Linux; make a bridge on both hosts, and name it with --bridge",
    "teaming": "the card is half of a pair with a device of the host; make it a card of its own in libvirt",
}
CARD_READ = {"source", "mac", "model", "target", "address", "link"} | SILENT
UNKNOWN = "unknown to this version, which cannot say whether the guest works without; remove it from the file if it does"
