/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Waiting until a process is idle, by the paper's rule (§5.1). The calling thread looks at the process's CPU clock about every
 * 100 us. An event loop's timers are too coarse for that: epoll waits whole milliseconds. */
#include "plover_native.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { STALE_NS = 100 * 1000 * 1000 };

static int64_t now_ns(clockid_t clock)
{
    struct timespec at;
    return clock_gettime(clock, &at) ? -1 : (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* Are there bytes that were written to the socket and not read at its other end? A closed socket has none. */
static int unread(int socket)
{
    int bytes = 0;
    return socket >= 0 && !ioctl(socket, SIOCOUTQ, &bytes) && bytes;
}

/* The state in /proc/PID/task/TID/stat; 0 if the thread is gone. */
static char state_of(int pid, const char *thread)
{
    char path[64], text[128];
    snprintf(path, sizeof path, "/proc/%d/task/%.20s/stat", pid, thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    const char *name_end = strrchr(text, ')'); /* the name before it may contain any character */
    return name_end && name_end[1] ? name_end[2] : 0;
}

/* Does a thread want a CPU? On a host with too few CPUs, a thread that waits for its turn does not consume CPU time either. */
static int runnable(int pid)
{
    char path[32];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (!threads) return 0;
    for (struct dirent *entry; !found && (entry = readdir(threads));)
        found = entry->d_name[0] != '.' && state_of(pid, entry->d_name) == 'R';
    closedir(threads);
    return found;
}

int plover_wait_idle(int pid, int socket, const volatile uint32_t *disturbed, unsigned looks, int64_t every_ns,
                     double share_max, int64_t limit_ns)
{
    const clockid_t clock = (clockid_t)(~(unsigned)pid << 3) | 2; /* CPUCLOCK_SCHED of a whole process */
    const struct timespec pause = {every_ns / 1000000000, every_ns % 1000000000};
    unsigned calm = 0;
    if (pid <= 0 || !disturbed || !looks || every_ns <= 0) return -EINVAL;
    uint32_t seen = *disturbed;
    int64_t cpu = now_ns(clock), wall = now_ns(CLOCK_MONOTONIC);
    const int64_t end = wall + limit_ns;
    while (wall < end) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        int64_t cpu_now = now_ns(clock), wall_now = now_ns(CLOCK_MONOTONIC), elapsed = wall_now - wall;
        if (cpu < 0 || cpu_now < 0) return 1; /* it has ended */
        int busy = (double)(cpu_now - cpu) > share_max * (double)elapsed || elapsed > STALE_NS;
        if (busy || *disturbed != seen || unread(socket)) calm = 0;
        else if (++calm >= looks) {
            if (!runnable(pid)) return 1;
            calm = 0;
        }
        seen = *disturbed, cpu = cpu_now, wall = wall_now;
    }
    return 0;
}
