/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Loaded into QEMU with LD_PRELOAD: opens a userfaultfd that acts on QEMU's memory, and writes its number to the
 * descriptor PLOVER_UFFD_FD or to the file named by PLOVER_UFFD_FILE: "<pid> <fd>\n", or "<pid> error <text>\n". The replica
 * daemon fetches the descriptor with pidfd_getfd and does the rest. Without a variable it opens none; it never disturbs QEMU.
 * QEMU's user may open neither the device nor a userfaultfd for the kernel's faults: it gets the device as descriptor
 * PLOVER_UFFD_DEVICE_FD; or one for its own faults does, since a write-protection that is lifted at once asks nobody.
 * What else the library does: see sticky_flush.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than Debian 12's headers. */
#define PLOVER_WP_ASYNC (UINT64_C(1) << 15)
#define PLOVER_WP_UNPOPULATED (UINT64_C(1) << 13)
#define PLOVER_WP_HUGETLBFS_SHMEM (UINT64_C(1) << 12)
#define PLOVER_USERFAULTFD_NEW _IO(0xAA, 0x00)
#define PLOVER_USER_MODE_ONLY 1

/* The descriptor that the variable names; -1 if it names none. */
static int given(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    long fd = text ? strtol(text, &end, 10) : -1;
    unsetenv(name);
    return text && end != text && !*end && fd > STDERR_FILENO && fd < INT_MAX ? (int)fd : -1;
}

static int open_uffd(int device)
{
    if (device < 0 || fcntl(device, F_GETFD) < 0) device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        return fd < 0 && errno == EPERM ? (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | PLOVER_USER_MODE_ONLY) : fd;
    }
    int fd = ioctl(device, PLOVER_USERFAULTFD_NEW, O_CLOEXEC | O_NONBLOCK);
    int saved = errno;
    close(device);
    errno = saved;
    return fd;
}

__attribute__((constructor)) static void plover_preload(void)
{
    const char *path = getenv("PLOVER_UFFD_FILE");
    char line[160];
    struct uffdio_api api = {
        .api = UFFD_API, .features = PLOVER_WP_ASYNC | PLOVER_WP_UNPOPULATED | PLOVER_WP_HUGETLBFS_SHMEM};
    unsetenv("LD_PRELOAD"); /* QEMU's children are none of our business */
    int device = given("PLOVER_UFFD_DEVICE_FD"), file = given("PLOVER_UFFD_FD");
    if (!path && file < 0) return;
    int saved = errno, fd = open_uffd(device), n;
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
        int why = errno;
        close(fd);
        errno = why;
        fd = -1;
    }
    if (fd >= 0)
        n = snprintf(line, sizeof line, "%d %d\n", (int)getpid(), fd);
    else
        n = snprintf(line, sizeof line, "%d error %s\n", (int)getpid(), strerror(errno));
    if (file < 0) file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0) {
        if (write(file, line, (size_t)n) != n && ftruncate(file, 0) && path) unlink(path);
        close(file);
    }
    unsetenv("PLOVER_UFFD_FILE");
    errno = saved;
}
