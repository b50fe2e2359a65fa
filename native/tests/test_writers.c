/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Trackers under concurrent writers: a page written after a fetch began is reported by this fetch or the next one.
 *
 * A child process writes pages of shared memory from several threads without a pause, like a guest's CPUs. We do the same as an
 * initial sync: fetch and copy the reported pages, several times. Then the child is stopped, we fetch and copy once more, and
 * the copy must be equal. A page that differs was forgotten. The program needs nothing else, so a guest with another kernel can
 * run it, too. */
#define _GNU_SOURCE
#include "plover_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 2048, WORDS = PAGES / 64, THREADS = 3, LIVE_ROUNDS = 6 };
static uint8_t *ram, *copy;
static uint64_t bitmap[WORDS];

static void *write_pages(void *number)
{
    uint64_t random = (uint64_t)(uintptr_t)number * 0x9e3779b97f4a7c15u + 1;
    for (;;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        volatile uint64_t *page = (uint64_t *)(ram + random % PAGES * PLOVER_PAGE);
        /* The small range of values often restores the old content, which must not fool a tracker that compares contents. */
        page[random >> 40 & 511] = random >> 32 & 3;
    }
    return NULL;
}

static pid_t start_writers(const char *preload, const char *uffd_file, const char *self, const char *path)
{
    pid_t pid = fork();
    if (pid) return pid;
    if (preload) setenv("LD_PRELOAD", preload, 1), setenv("PLOVER_UFFD_FILE", uffd_file, 1);
    execl(self, self, "--child", path, (char *)NULL);
    _exit(127);
}

static int child(const char *path)
{
    pthread_t thread;
    int fd = open(path, O_RDWR);
    ram = mmap((void *)0x600000000000, (size_t)PAGES * PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
               fd, 0);
    if (ram == MAP_FAILED) return 1;
    for (uintptr_t i = 1; i < THREADS; i++)
        if (pthread_create(&thread, NULL, write_pages, (void *)i)) return 1;
    write_pages(NULL);
    return 0;
}

static int uffd_of(pid_t pid, const char *file)
{
    int told = 0, number = -1;
    for (int i = 0; i < 500 && told != pid; i++) {
        FILE *f = fopen(file, "r");
        if (f && fscanf(f, "%d %d", &told, &number) != 2) told = 0;
        if (f) fclose(f);
        usleep(10000);
    }
    return (int)syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, pid, 0), number, 0);
}

/* Copy the reported pages, as an initial sync does. */
static int64_t copy_told(plover_tracker *t)
{
    int64_t told = 0;
    static uint8_t page[PLOVER_PAGE];
    for (uint32_t i = 0; i < PAGES; i++) {
        if (!(bitmap[i / 64] >> i % 64 & 1)) continue;
        plover_gather(ram, PAGES, &i, 1, page);
        memcpy(copy + (size_t)i * PLOVER_PAGE, page, PLOVER_PAGE);
        if (plover_tracker_synced(t, &i, 1, page)) abort();
        told++;
    }
    return told;
}

static int stand_still(pid_t pid)
{
    int status;
    return kill(pid, SIGSTOP) || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status);
}

/* One initial sync, then one syncvm. Returns the number of pages that differ in the end. */
static int forgotten(plover_tracker *t, pid_t pid)
{
    int wrong = 0;
    memset(bitmap, 0xff, sizeof bitmap); /* the first round copies all pages */
    for (int round = 0; round < LIVE_ROUNDS; round++) {
        uint64_t none[WORDS] = {0};
        if (!round && plover_tracker_fetch(t, none, WORDS) < 0) return -1;
        copy_told(t);
        usleep((useconds_t)(rand() % 3000));
        memset(bitmap, 0, sizeof bitmap);
        if (plover_tracker_fetch(t, bitmap, WORDS) < 0) return -1;
    }
    for (int stop = 0; stop < 2; stop++) {
        if (stand_still(pid) || plover_tracker_fetch_stopped(t, bitmap, WORDS) < 0) return -1;
        copy_told(t);
        for (int i = 0; i < PAGES; i++)
            wrong += memcmp(ram + (size_t)i * PLOVER_PAGE, copy + (size_t)i * PLOVER_PAGE, PLOVER_PAGE) != 0;
        kill(pid, SIGCONT);
        usleep(2000);
        memset(bitmap, 0, sizeof bitmap);
    }
    return wrong;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* If the process may lock almost no memory, soft-dirty must refuse. In a child, because a given-up capability is gone. */
static int refuses_without_lock(pid_t pid, uint64_t address)
{
    pid_t one = fork();
    if (!one) {
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct caps[2];
        struct rlimit none = {4096, 4096};
        char err[300];
        plover_tracker *t = NULL;
        if (syscall(SYS_capget, &head, caps)) _exit(2);
        caps[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
        if (syscall(SYS_capset, &head, caps) || setrlimit(RLIMIT_MEMLOCK, &none)) _exit(2);
        int rc = plover_tracker_open("soft-dirty", pid, address, ram, PAGES, -1, NULL, &t, err, sizeof err);
        if (!rc || !strstr(err, "cannot lock") || !strstr(err, "LimitMEMLOCK")) _exit(1);
        _exit(0);
    }
    int status = -1;
    return waitpid(one, &status, 0) == one && WIFEXITED(status) && !WEXITSTATUS(status);
}

static int locked_kib(void)
{
    char line[256];
    int kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmLck: %d kB", &kib) != 1) continue;
    if (f) fclose(f);
    return kib;
}

static int test(const char *backend, double seconds, const char *self, const char *build)
{
    char path[] = "/dev/shm/plover-writers-XXXXXX", uffd_file[] = "/dev/shm/plover-uffd-XXXXXX", preload[4096], err[300] = "";
    int fd = mkstemp(path), uffd = -1, wrong = 0, syncs = 0, wp = !strcmp(backend, "uffd-wp"), soft = !strcmp(backend, "soft-dirty");
    close(mkstemp(uffd_file));
    if (fd < 0 || ftruncate(fd, (off_t)PAGES * PLOVER_PAGE)) return perror(path), 1;
    ram = mmap(NULL, (size_t)PAGES * PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    copy = calloc(PAGES, PLOVER_PAGE);
    snprintf(preload, sizeof preload, "%s/libplover_preload.so", build);
    pid_t pid = start_writers(wp ? preload : NULL, uffd_file, self, path);
    while (!((volatile uint8_t *)ram)[0] && !waitpid(pid, NULL, WNOHANG)) usleep(1000); /* it writes */
    if (wp) uffd = uffd_of(pid, uffd_file);
    plover_tracker *t = NULL;
    int rc = plover_tracker_open(backend, pid, 0x600000000000, ram, PAGES, uffd, NULL, &t, err, sizeof err);
    if (rc) printf("writers: %s: %s\n", backend, err);
    int refused = rc || !soft || refuses_without_lock(pid, 0x600000000000);
    int locked = rc || !soft || locked_kib() >= (int)(PAGES * PLOVER_PAGE >> 10);
    for (double end = now_s() + seconds; !rc && wrong >= 0 && (syncs < 2 || now_s() < end); syncs++) {
        int found = forgotten(t, pid);
        wrong = found < 0 ? found : wrong + found;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    plover_tracker_close(t);
    locked = locked && (!soft || !locked_kib());
    close(fd), munmap(ram, (size_t)PAGES * PLOVER_PAGE), free(copy), unlink(path), unlink(uffd_file);
    if (rc) return rc == -EOPNOTSUPP ? 77 : 1;
    printf("writers: %s: %d initial syncs, %d pages forgotten%s%s\n", backend, syncs, wrong, refused ? "" : ", not refused",
           locked ? "" : ", not locked");
    return wrong || !refused || !locked;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--child")) return child(argv[2]);
    if (argc != 4) return fprintf(stderr, "usage: %s BUILD-FOLDER BACK-END SECONDS\n", argv[0]), 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    return test(argv[2], atof(argv[3]), argv[0], argv[1]);
}
