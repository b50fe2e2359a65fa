/* SPDX-License-Identifier: GPL-3.0-or-later */
/* soft-dirty: /proc/PID/clear_refs and bit 55 of /proc/PID/pagemap (Linux Documentation/admin-guide/mm/soft-dirty.rst).
 * Reading and clearing are two steps, so the process must be stopped between them: at a syncvm its VM is. */
#include "tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SOFT_DIRTY (UINT64_C(1) << 55)
enum { ENTRIES = 4096 };

/* Does this kernel set the bit at all? A fresh private page of ours that was just written must have it. */
static int kernel_has_it(void)
{
    uint64_t entry = 0;
    volatile char *page = mmap(NULL, PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (page == MAP_FAILED || fd < 0) return 0;
    *page = 1;
    ssize_t n = pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)page / PLOVER_PAGE * sizeof entry));
    close(fd);
    munmap((void *)page, PLOVER_PAGE);
    return n == (ssize_t)sizeof entry && entry & SOFT_DIRTY;
}

static int clear(plover_tracker *t) { return pwrite(t->clear_refs, "4", 1, 0) == 1 ? 0 : -errno; }

static int soft_open(plover_tracker *t, char *err, size_t errlen)
{
    char path[64];
    if (!kernel_has_it()) {
        snprintf(err, errlen, "soft-dirty: this kernel has no CONFIG_MEM_SOFT_DIRTY; set syncvm_dirty_tracking: "
                              "uffd-wp (Linux >= 6.7) or scan");
        return -EOPNOTSUPP;
    }
    snprintf(path, sizeof path, "/proc/%d/pagemap", t->pid);
    t->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/clear_refs", t->pid);
    t->clear_refs = open(path, O_WRONLY | O_CLOEXEC);
    if (t->pagemap < 0 || t->clear_refs < 0) {
        int rc = -errno;
        snprintf(err, errlen, "soft-dirty: %s: %s; the daemon needs CAP_SYS_PTRACE", path, strerror(-rc));
        return rc;
    }
    return clear(t);
}

static int64_t soft_fetch(plover_tracker *t, uint64_t *bitmap)
{
    uint64_t entries[ENTRIES];
    int64_t written = 0;
    for (size_t page = 0; page < t->pages; page += ENTRIES) {
        size_t n = t->pages - page < ENTRIES ? t->pages - page : ENTRIES;
        off_t at = (off_t)((t->address / PLOVER_PAGE + page) * sizeof *entries);
        if (pread(t->pagemap, entries, n * sizeof *entries, at) != (ssize_t)(n * sizeof *entries)) return -EIO;
        for (size_t i = 0; i < n; i++)
            if (entries[i] & SOFT_DIRTY) written += tracker_mark(bitmap, page + i);
    }
    int rc = clear(t);
    return rc ? rc : written;
}

const struct tracker_backend plover_soft_dirty = {"soft-dirty", soft_open, soft_fetch};
