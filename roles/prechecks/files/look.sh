#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Read-only look at a host: ADDRESS BRIDGE-MEMBER BRIDGE MEMORY-MIB TRACKING ACCEL NAME=PORT,... RDMA-VM A line per problem; status 1 if any.
address=$1 member=$2 bridge=$3 memory=$4 tracking=$5 accel=$6 ports=$7 rdma=$8
bad=0
problem() { echo "$(hostname): $*"; bad=1; }
ip -br addr | grep -q " $address/" || problem "plover_replication_address: $address is on no card of this host"
# Without a stack that makes one, the device must be there.
[ "$rdma" = - ] || [ -n "$(ls /sys/class/infiniband 2>/dev/null)" ] ||
    problem "plover_rdma_stack: none, but the transport of $rdma is rdma and this host has no RDMA device; set it" \
        "to distro, mlnx or soft-roce (role ofed), or settings.transport of $rdma to tcp"
command -v python3 >/dev/null || problem "python3 is missing; install it"
if [ "$memory" -gt 0 ]; then
    [ -e "/sys/class/net/$bridge/bridge" ] || [ -e "/sys/class/net/$member" ] ||
        problem "plover_bridge_member: there is no card $member, and no bridge $bridge either"
    have=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    [ "$have" -ge $((memory + 256)) ] || problem "memory_mib: the VMs need $memory MiB, this host has $have MiB; make them smaller"
    shm=$(df -m --output=size /dev/shm | tail -n 1)
    [ "$shm" -ge "$memory" ] || problem "/dev/shm holds $shm MiB, the VMs need $memory MiB; remount it with a larger size"
    case $tracking in *uffd-wp*)
        [ -e /dev/userfaultfd ] || problem "syncvm_dirty_tracking: uffd-wp needs /dev/userfaultfd (Linux >= 6.7); set it to scan"
        printf '6.7\n%s\n' "$(uname -r)" | sort -V -C || problem "syncvm_dirty_tracking: uffd-wp needs Linux >= 6.7, this is $(uname -r); set it to scan"
    esac
    case $accel in *kvm*) [ -w /dev/kvm ] || problem "accel: kvm needs /dev/kvm on this host; enable virtualization or set accel: tcg" ;; esac
fi
for pair in $(echo "$ports" | tr ',' ' '); do
    name=${pair%=*} port=${pair#*=}
    for pid in $(ss -Hltnp "sport = :$port" 2>/dev/null | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do
        command=$(tr '\0' ' ' <"/proc/$pid/cmdline")
        case $command in
            *plover.replica*|*plover.witness*|*qemu-system*path=/run/plover/*) ;; # ours, from an earlier run of the play
            *) problem "$name: $port is in use here by process $pid ($(echo "$command" | cut -c1-60)); choose another one" ;;
        esac
    done
done
version=$(qemu-system-x86_64 --version 2>/dev/null | head -n 1)
echo "qemu=$version"
exit $bad
