/* SPDX-License-Identifier: GPL-3.0-or-later */
/* uffd-wp: asynchronous write protection, read and reset with PAGEMAP_SCAN.
 * Linux Documentation/admin-guide/mm/pagemap.rst ("Pagemap Scan IOCTL") and userfaultfd.rst.
 * Debian 12's kernel headers are older than this interface, so its few constants are defined here. */
#include "tracking/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct scan_region { uint64_t start, end, categories; };
struct scan_argument {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_argument)
enum { WRITTEN = 1 << 1, WP_MATCHING = 1 << 0, CHECK_WPASYNC = 1 << 1, REGIONS = 512 };

/* Walk once over the range: write-protect all written pages, and mark them in bitmap unless that is NULL. */
static int64_t scan_and_protect(plover_tracker *t, uint64_t *bitmap)
{
    struct scan_region regions[REGIONS];
    uint64_t end = t->address + (uint64_t)t->pages * PLOVER_PAGE;
    struct scan_argument arg = {
        .size = sizeof arg, .flags = WP_MATCHING | CHECK_WPASYNC, .start = t->address, .end = end,
        .vec = (uint64_t)(uintptr_t)regions, .vec_len = REGIONS, .category_mask = WRITTEN, .return_mask = WRITTEN};
    int64_t written = 0;
    while (arg.start < end) {
        int n = ioctl(t->pagemap, SCAN_IOCTL, &arg);
        if (n < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        for (int i = 0; i < n; i++)
            for (uint64_t at = regions[i].start; at < regions[i].end; at += PLOVER_PAGE)
                written += bitmap ? tracker_mark(bitmap, (at - t->address) / PLOVER_PAGE) : 1;
        if (arg.walk_end <= arg.start) return -EIO; /* no progress: do not loop for ever */
        arg.start = arg.walk_end;
    }
    return written;
}

static int uffd_open(plover_tracker *t, char *err, size_t errlen)
{
    char path[64];
    struct uffdio_register reg = {
        .range = {.start = t->address, .len = (uint64_t)t->pages * PLOVER_PAGE}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (t->uffd < 0) {
        snprintf(err, errlen, "uffd-wp: QEMU opened no userfaultfd; is the preload library installed, and "
                              "/dev/userfaultfd there? (or set syncvm_dirty_tracking: scan)");
        return -EBADF;
    }
    if (ioctl(t->uffd, UFFDIO_REGISTER, &reg)) {
        int rc = -errno;
        snprintf(err, errlen, "uffd-wp: UFFDIO_REGISTER of guest RAM: %s", strerror(-rc));
        return rc;
    }
    snprintf(path, sizeof path, "/proc/%d/pagemap", t->pid);
    t->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (t->pagemap < 0) {
        int rc = -errno;
        snprintf(err, errlen, "uffd-wp: %s: %s; the daemon needs CAP_SYS_PTRACE", path, strerror(-rc));
        return rc;
    }
    int64_t rc = scan_and_protect(t, NULL);
    if (rc < 0) {
        snprintf(err, errlen, "uffd-wp: PAGEMAP_SCAN: %s; it needs Linux >= 6.7 (or set syncvm_dirty_tracking: "
                              "soft-dirty or scan)", strerror((int)-rc));
        return (int)rc;
    }
    return 0;
}

static int64_t uffd_fetch(plover_tracker *t, uint64_t *bitmap, int stopped)
{
    (void)stopped;
    return scan_and_protect(t, bitmap);
}

const struct tracker_backend plover_uffd_wp = {"uffd-wp", uffd_open, uffd_fetch};
