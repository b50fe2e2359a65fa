# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host: systemd-nspawn on an overlay of the base image, with its own network namespace and cgroup."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from .paths import LAB, ROOT, SUFFIX

NETNS, CLIENT = f"plover-lab{SUFFIX}", f"plover-client{SUFFIX}"
BRIDGES = {"mgmt": "brmgmt", "ft": "brft", "svc": "brsvc"}
HOSTS = {"primary": 11, "secondary": 12, "witness": 13}
MORE_HOSTS = {"third": 14, "fourth": 15}  # replicas too, for a second group; made only when they are asked for
ALL_HOSTS = {**HOSTS, **MORE_HOSTS}
CLIENT_IP, SERVICE_IP, SERVICE_PORT = "192.168.79.1", "192.168.79.50", 6379
CGROUPS = Path("/sys/fs/cgroup")
STATE_PATH = "/var/lib/plover/demo"
OWN_NETWORK = "/etc/lab-own-network"  # a host with this file brings its cards up itself


def sh(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"lab: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def ip(netns: str, words: str, check: bool = True) -> str:
    return sh("ip", "-n", netns, *words.split(), check=check)


def addresses(host: str) -> dict[str, str]:
    """NIC kind -> address; the service NIC has none, and the witness has no service NIC."""
    out = {"mgmt": f"192.168.77.{ALL_HOSTS[host]}/24", "ft": f"192.168.78.{ALL_HOSTS[host]}/24"}
    return out if host == "witness" else {**out, "svc": ""}


def network_up() -> None:
    """The wires between the hosts, and the client's place on the service network."""
    if Path(f"/run/netns/{NETNS}").exists():
        return
    for netns in (NETNS, CLIENT):
        sh("ip", "netns", "add", netns)
        ip(netns, "link set lo up")
    for bridge in BRIDGES.values():
        ip(NETNS, f"link add {bridge} type bridge")
        ip(NETNS, f"link set {bridge} up")
    ip(NETNS, "addr add 192.168.77.1/24 dev brmgmt")
    ip(NETNS, f"link add client type veth peer name eth0 netns {CLIENT}")
    ip(NETNS, "link set client master brsvc up")
    ip(CLIENT, f"addr add {CLIENT_IP}/24 dev eth0")
    ip(CLIENT, "link set eth0 up")


def cgroup_name(host: str) -> str:
    return f"plover-lab{SUFFIX}-{host}"


def netns_name(host: str) -> str:
    return f"plover{SUFFIX}-{host}"


def cgroup_folders(host: str) -> list[Path]:
    """One cgroup per hierarchy, so that no process of the host runs in a cgroup of the machine."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    roots = [CGROUPS] if unified else [p for p in CGROUPS.iterdir() if p.is_dir() and not p.is_symlink()]
    return [root / cgroup_name(host) for root in roots]


class Host:
    def __init__(self, name: str) -> None:
        if name not in ALL_HOSTS:
            raise SystemExit(f"lab: no host {name!r}; there are {', '.join(ALL_HOSTS)}")
        self.name, self.folder, self.netns = name, LAB / "hosts" / name, netns_name(name)
        self._lost_power = self.folder / "lost-power"
        self.root, self.pid_file = self.folder / "root", self.folder / "pid"
        self.state_disk = self.folder / "state"  # a small disk of its own for the durable state, if one is mounted here

    @property
    def replication_address(self) -> str:
        return addresses(self.name)["ft"].partition("/")[0]

    def running(self) -> bool:
        try:
            os.kill(int(self.pid_file.read_text()), 0)
        except (OSError, ValueError):
            return False
        return True

    def create(self, base: Path, key: str) -> None:
        """Disk (kept over a power loss) and identity."""
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.root):
            sh(
                "mount",
                "-t",
                "overlay",
                self.netns,
                "-o",
                f"lowerdir={base},upperdir={self.folder}/upper,workdir={self.folder}/work",
                str(self.root),
            )
        ssh = self.root / "root" / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "authorized_keys").write_text(key)
        (self.root / "etc" / "hostname").write_text(self.name + "\n")
        host_key = self.root / "etc" / "ssh" / "ssh_host_ed25519_key"
        if not host_key.exists():
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key))

    def plug(self) -> None:
        """Fresh network cards, as after a power cycle; their addresses stay the same."""
        sh("ip", "netns", "del", self.netns, check=False)
        sh("ip", "netns", "add", self.netns)
        ip(self.netns, "link set lo up")
        for kind, address in addresses(self.name).items():
            wire = f"{kind}-{self.name}"
            mac = hashlib.sha256(wire.encode()).hexdigest()[:10]
            mac = "02:" + ":".join(mac[i : i + 2] for i in range(0, 10, 2))
            ip(NETNS, f"link del {wire}", check=False)
            ip(NETNS, f"link add {wire} type veth peer name {kind}0 address {mac} netns {self.netns}")
            ip(NETNS, f"link set {wire} master {BRIDGES[kind]} up")
            if (self.root / OWN_NETWORK.lstrip("/")).exists():
                continue
            ip(self.netns, f"link set {kind}0 up")
            if address:
                ip(self.netns, f"addr add {address} dev {kind}0")

    def power_on(self) -> None:
        if self.running():
            return
        subprocess.Popen(
            [sys.executable, "-m", "lab.hosts", self.name],
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            if self.running():
                return
            time.sleep(0.05)
        raise SystemExit(f"lab: {self.name} did not start; see {self.folder}/console.log")

    def mainboard(self) -> None:
        """Run the host until it is switched off; exit status 133 of nspawn means that it reboots."""
        for group in cgroup_folders(self.name):
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists() and not (group / name).read_text().strip():
                    (group / name).write_text((group.parent / name).read_text())
        while True:
            self.plug()
            with open(self.folder / "console.log", "ab") as console:
                code = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=self._enter)
                self.pid_file.write_text(str(code.pid))
                if code.wait() != 133:
                    break
        self.pid_file.unlink(missing_ok=True)

    def _enter(self) -> None:
        for group in cgroup_folders(self.name):
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def _command(self) -> list[str]:
        binds = [f"--bind={p}" for p in ("/dev/net/tun", "/dev/kvm", "/dev/userfaultfd") if Path(p).exists()]
        binds += [f"--bind-ro={LAB / 'apt'}:/srv/apt"] if (LAB / "apt").exists() else []
        binds += [f"--bind={self.state_disk}:{STATE_PATH}"] if os.path.ismount(self.state_disk) else []
        return [
            "nsenter",
            f"--net=/run/netns/{self.netns}",
            "env",
            "SYSTEMD_SECCOMP=0",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            f"--machine={self.name}{SUFFIX}",
            f"--hostname={self.name}",
            f"--directory={self.root}",
            "--link-journal=no",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--tmpfs=/dev/shm:mode=1777,size=2G",
            "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK,CAP_SYS_NICE,CAP_SYS_PTRACE",
            *binds,
        ]

    def links(self, state: str, kinds: tuple[str, ...] = ("mgmt", "ft", "svc")) -> None:
        for kind in kinds:
            if kind in addresses(self.name):
                ip(NETNS, f"link set {kind}-{self.name} {state}", check=False)

    def lost_power_at(self) -> float:
        """When that was last, by time.time()."""
        return self._lost_power.stat().st_mtime

    def power_loss(self) -> None:
        """Links first, so that no FIN or RST leaves; then every process of the host at once."""
        self._lost_power.touch()
        self.links("down")
        self.freeze("THAWED")
        killers = [g / "cgroup.kill" for g in cgroup_folders(self.name) if (g / "cgroup.kill").exists()]
        for killer in killers:
            killer.write_text("1")
        self._wait_off()

    def off(self) -> None:
        if self.running():
            os.kill(int(self.pid_file.read_text()), signal.SIGTERM)
            self._wait_off()

    def _wait_off(self) -> None:
        for _ in range(400):
            if not self.running():
                return
            time.sleep(0.05)
        raise SystemExit(f"lab: {self.name} does not end")

    def freeze(self, state: str) -> None:
        """FROZEN or THAWED."""
        for group in cgroup_folders(self.name):
            if (group / "freezer.state").exists():
                (group / "freezer.state").write_text(state)
            elif (CGROUPS / "cgroup.controllers").exists():
                (group / "cgroup.freeze").write_text("1" if state == "FROZEN" else "0")

    def destroy(self) -> None:
        if any(g.exists() for g in cgroup_folders(self.name)):
            self.power_loss()
        for mount in (self.root, self.state_disk):
            sh("umount", str(mount), check=False)
        sh("ip", "netns", "del", self.netns, check=False)
        for group in cgroup_folders(self.name):
            for _ in range(100):
                if not group.exists() or all(_remove(p) for p in [*sorted(group.rglob("*/"), reverse=True), group]):
                    break
                time.sleep(0.05)
        if not os.path.ismount(self.root) and not os.path.ismount(self.state_disk):
            shutil.rmtree(self.folder, ignore_errors=True)


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.is_dir()
    return True


def down() -> list[str]:
    """Remove everything. Returns whatever could not be removed."""
    for name in ALL_HOSTS:
        Host(name).destroy()
    for netns in (NETNS, CLIENT):
        sh("ip", "netns", "del", netns, check=False)
    left = [str(g) for name in ALL_HOSTS for g in cgroup_folders(name) if g.exists()]
    left += [n for n in (NETNS, CLIENT, *map(netns_name, ALL_HOSTS)) if Path(f"/run/netns/{n}").exists()]
    return left + [str(Host(n).root) for n in ALL_HOSTS if os.path.ismount(Host(n).root)]


if __name__ == "__main__":
    Host(sys.argv[1]).mainboard()
