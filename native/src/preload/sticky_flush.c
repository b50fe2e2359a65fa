/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A flush that failed stays failed: once fsync or fdatasync of a file has failed in this process, every later one of that file fails
 * with the same error.
 *
 * What a failed flush was to save may be gone, and the kernel tells of that once. QEMU remembers it for buffered images only
 * (page_cache_inconsistent); of an image with O_DIRECT the next flush may succeed and prove nothing. Several parties flush one image:
 * the guest, each stop of the VM, the leader over NBD, the merge. The one that hears of the error need not be the one that counts on
 * the flush.
 *
 * There is no way back: the process ends and another one opens the file. That it was so is told to the descriptor
 * PLOVER_FLUSH_FD or to the file named by PLOVER_FLUSH_FILE, a line for each file that failed: whoever has the process end, as the
 * leader does with a secondary that does not flush, may have heard of it when this host had not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
enum { FILES_MAX = 64 }; /* a VM has 16 disks at most */

struct failed_file {
    bool is_device;
    uint64_t device, inode;
    int error;
};

typedef int sync_call(int fd);

static struct failed_file files[FILES_MAX]; /* the first file_count hold, and never change again */
static unsigned file_count;
static int error_of_all; /* there was no room for one more: then no flush is believed */
static int report = -1;
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;

/* Before QEMU gives up its privileges. */
__attribute__((constructor)) static void open_report(void)
{
    const char *path = getenv("PLOVER_FLUSH_FILE"), *number = getenv("PLOVER_FLUSH_FD");
    int saved = errno, fd = number ? atoi(number) : -1;
    if (fd > STDERR_FILENO && !fcntl(fd, F_SETFD, FD_CLOEXEC))
        report = fd;
    else if (path)
        report = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("PLOVER_FLUSH_FD");
    unsetenv("PLOVER_FLUSH_FILE");
    errno = saved;
}

/* Before anybody hears of the error. */
static void tell(int error)
{
    char line[40];
    int n = snprintf(line, sizeof line, "error %d\n", error);
    if (report >= 0 && write(report, line, (size_t)n) != n) return; /* there is nobody to tell */
}

/* Only of what can lose data: not of a pipe, nor of a descriptor that is none. */
static bool identify(int fd, struct failed_file *file)
{
    struct stat is;
    if (fstat(fd, &is) || !(S_ISREG(is.st_mode) || S_ISBLK(is.st_mode))) return false;
    file->is_device = S_ISBLK(is.st_mode); /* may have several nodes */
    file->device = file->is_device ? is.st_rdev : is.st_dev;
    file->inode = file->is_device ? 0 : is.st_ino;
    return true;
}

/* The error of its first flush that failed; 0 if there is none. */
static int error_of(const struct failed_file *file)
{
    unsigned count = __atomic_load_n(&file_count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < count; i++)
        if (files[i].is_device == file->is_device && files[i].device == file->device && files[i].inode == file->inode)
            return files[i].error;
    return __atomic_load_n(&error_of_all, __ATOMIC_ACQUIRE);
}

static bool has_any_failed(void)
{
    return __atomic_load_n(&file_count, __ATOMIC_ACQUIRE) != 0;
}

static int earlier_error(int fd)
{
    struct failed_file file;
    return has_any_failed() && identify(fd, &file) ? error_of(&file) : 0;
}

static void note(int fd, int error)
{
    struct failed_file file;
    if (!identify(fd, &file)) return;
    file.error = error;
    pthread_mutex_lock(&adding);
    if (!error_of(&file)) {
        tell(error);
        if (file_count < FILES_MAX) {
            files[file_count] = file;
            __atomic_store_n(&file_count, file_count + 1, __ATOMIC_RELEASE);
        } else {
            __atomic_store_n(&error_of_all, error, __ATOMIC_RELEASE);
        }
    }
    pthread_mutex_unlock(&adding);
}

static int sync_once(int fd, sync_call *next, long number)
{
    int saved = errno, error = earlier_error(fd);
    if (!error) {
        errno = saved;
        int rc = next ? next(fd) : (int)syscall(number, fd);
        if (rc) {
            error = errno;
            note(fd, error);
            errno = error;
            return rc;
        }
        error = earlier_error(fd); /* of another thread, meanwhile */
    }
    errno = error ? error : saved;
    return error ? -1 : 0;
}

/* Another library may have the next one: it is asked, not the kernel. */
static sync_call *next_of(sync_call **known, const char *name)
{
    sync_call *next = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    if (!next) {
        next = (sync_call *)dlsym(RTLD_NEXT, name);
        __atomic_store_n(known, next, __ATOMIC_RELEASE);
    }
    return next;
}

EXPORTED int fsync(int fd)
{
    static sync_call *known;
    return sync_once(fd, next_of(&known, "fsync"), SYS_fsync);
}

EXPORTED int fdatasync(int fd)
{
    static sync_call *known;
    return sync_once(fd, next_of(&known, "fdatasync"), SYS_fdatasync);
}
