/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A flush that failed stays failed; of that file, and of no other. */
#include "../src/preload/sticky_flush.c"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed, passed;
#define CHECK(condition) \
    ((condition) ? (void)passed++ : (void)(failed++, fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition)))

enum { MANY = FILES_MAX + 8, THREADS = 8 };
static int disk_error, disk_calls; /* what the disk below answers, and how often it was asked */

static int disk(int fd)
{
    (void)fd;
    __atomic_add_fetch(&disk_calls, 1, __ATOMIC_SEQ_CST);
    if (!disk_error) return 0;
    errno = disk_error;
    return -1;
}

static int answer(int fd, int error)
{
    disk_error = error;
    errno = 77;
    return sync_once(fd, disk, 0);
}

static int another_file(void)
{
    char path[] = "/tmp/plover-flush-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) abort();
    unlink(path);
    return fd;
}

static void test_one_file(void)
{
    int fd = another_file(), other = another_file(), again = dup(fd), ends[2], calls;
    CHECK(answer(fd, 0) == 0 && errno == 77 && !has_any_failed());
    CHECK(answer(fd, ENOSPC) == -1 && errno == ENOSPC);
    calls = disk_calls;
    CHECK(answer(fd, 0) == -1 && errno == ENOSPC && disk_calls == calls);
    CHECK(answer(again, EIO) == -1 && errno == ENOSPC); /* by its first error, whatever the descriptor */
    CHECK(fsync(fd) == -1 && errno == ENOSPC && fdatasync(again) == -1 && errno == ENOSPC);
    errno = 77;
    CHECK(answer(other, 0) == 0 && fsync(other) == 0 && fdatasync(other) == 0 && errno == 77);
    if (pipe(ends)) abort();
    CHECK(fsync(ends[0]) == -1 && errno == EINVAL && fsync(-1) == -1 && errno == EBADF && file_count == 1);
    close(fd), close(other), close(again), close(ends[0]), close(ends[1]);
}

/* One thread hears of the error; the others were asked before, and are answered later. */
/* One call fails; the others began before it, and end well after it. */
static pthread_barrier_t all_asked;

static int slow_disk(int fd)
{
    static int number;
    (void)fd;
    int mine = __atomic_fetch_add(&number, 1, __ATOMIC_SEQ_CST);
    pthread_barrier_wait(&all_asked);
    if (!mine) return errno = EIO, -1;
    while (!has_any_failed()) usleep(100);
    return 0;
}

static void *flush_slowly(void *fd)
{
    return (void *)(intptr_t)(sync_once(*(int *)fd, slow_disk, 0) == -1 && errno == EIO);
}

static void test_threads(void)
{
    pthread_t threads[THREADS];
    void *heard;
    int fd = another_file();
    file_count = 0;
    if (pthread_barrier_init(&all_asked, NULL, THREADS)) abort();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, flush_slowly, &fd)) abort();
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], &heard) && heard);
    CHECK(file_count == 1);
    close(fd);
}

static void test_more_files_than_there_is_room_for(void)
{
    int fds[MANY], other = another_file();
    for (int i = 0; i < MANY; i++) {
        fds[i] = another_file();
        CHECK(answer(fds[i], EIO) == -1 && errno == EIO);
    }
    for (int i = 0; i < MANY; i++) CHECK(answer(fds[i], 0) == -1 && errno == EIO), close(fds[i]);
    CHECK(file_count == FILES_MAX && answer(other, 0) == -1 && errno == EIO); /* none is believed */
    close(other);
}

/* Each file once, and as soon as the caller knows. */
static void test_report(void)
{
    char path[] = "/tmp/plover-report-XXXXXX", text[100] = "";
    int fd = mkstemp(path), one = another_file(), other = another_file();
    file_count = 0, error_of_all = 0;
    setenv("PLOVER_FLUSH_FILE", path, 1);
    open_report();
    CHECK(!getenv("PLOVER_FLUSH_FILE") && answer(one, 0) == 0 && read(fd, text, sizeof text) == 0);
    answer(one, EIO), answer(one, EIO), answer(other, ENOSPC);
    CHECK(read(fd, text, sizeof text - 1) > 0 && !strcmp(text, "error 5\nerror 28\n"));
    close(report);
    int given = open(path, O_WRONLY | O_APPEND | O_TRUNC);
    snprintf(text, sizeof text, "%d", given);
    setenv("PLOVER_FLUSH_FD", text, 1);
    file_count = 0;
    open_report();
    CHECK(report == given && !getenv("PLOVER_FLUSH_FD") && fcntl(given, F_GETFD) == FD_CLOEXEC);
    answer(one, EIO);
    memset(text, 0, sizeof text);
    CHECK(pread(fd, text, sizeof text - 1, 0) > 0 && !strcmp(text, "error 5\n"));
    close(fd), close(one), close(other), close(report), unlink(path);
    report = -1;
}

int main(void)
{
    test_one_file();
    test_threads();
    test_more_files_than_there_is_room_for();
    test_report();
    printf("sticky flush: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
