/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Preloaded into a replica's daemon and QEMU: the n-th write or flush of one file fails, as on a disk that does so.
 *
 * Everything above the C library is the real thing, so also what QEMU and the daemon make of a failed flush. The test maps the
 * same orders (faulty_disk.py) and changes them while both run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, FLUSH };

struct orders {
    uint64_t device, inode;
    int32_t error;   /* 0: nothing fails */
    int32_t kind;
    int32_t for_ever;
    int32_t left;    /* calls of the kind until the first that fails, this one included */
    int32_t failed;  /* calls that failed */
    int32_t seen[2]; /* calls of each kind */
};

static struct orders *orders;

__attribute__((constructor)) static void map_orders(void)
{
    const char *path = getenv("PLOVER_TEST_DISK_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        orders = at;
}

/* The error that this call is to fail with, or 0. */
static int fault(int fd, int kind)
{
    struct stat is;
    if (!orders || fstat(fd, &is) || is.st_dev != orders->device || is.st_ino != orders->inode)
        return 0;
    __atomic_add_fetch(&orders->seen[kind], 1, __ATOMIC_SEQ_CST);
    int error = __atomic_load_n(&orders->error, __ATOMIC_SEQ_CST);
    if (!error || orders->kind != kind)
        return 0;
    int left = __atomic_sub_fetch(&orders->left, 1, __ATOMIC_SEQ_CST);
    if (left > 0 || (left < 0 && !orders->for_ever))
        return 0;
    __atomic_add_fetch(&orders->failed, 1, __ATOMIC_SEQ_CST);
    return error;
}

#define WRAP(type, name, kind, parameters, ...)                                                                                \
    type name parameters                                                                                                       \
    {                                                                                                                          \
        static type(*next) parameters;                                                                                         \
        if (!next)                                                                                                             \
            next = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                                                \
        int error = fault(fd, kind);                                                                                           \
        if (error) {                                                                                                           \
            errno = error;                                                                                                     \
            return -1;                                                                                                         \
        }                                                                                                                      \
        return next(__VA_ARGS__);                                                                                              \
    }

WRAP(ssize_t, pwrite, WRITE, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
WRAP(ssize_t, pwrite64, WRITE, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
WRAP(ssize_t, pwritev, WRITE, (int fd, const struct iovec *data, int count, off_t at), fd, data, count, at)
WRAP(ssize_t, pwritev64, WRITE, (int fd, const struct iovec *data, int count, off64_t at), fd, data, count, at)
WRAP(int, fallocate, WRITE, (int fd, int mode, off_t at, off_t size), fd, mode, at, size)
WRAP(int, fallocate64, WRITE, (int fd, int mode, off64_t at, off64_t size), fd, mode, at, size)
WRAP(int, fsync, FLUSH, (int fd), fd)
WRAP(int, fdatasync, FLUSH, (int fd), fd)
