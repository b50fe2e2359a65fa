/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of the C library: known answers, bounds, the pool, and real dirty tracking of a child process that has the
 * preload library. usage: test_native BUILD-FOLDER */
#define _GNU_SOURCE
#include "threads/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed, passed;
#define CHECK(what) ((what) ? passed++ : (failed++, fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what)))

enum { PAGES = 1000, WORDS = (PAGES + 63) / 64 };

static void test_known_answers(void)
{
    static uint8_t page[PLOVER_PAGE];
    CHECK(plover_cityhash64(page, sizeof page) == 0x06c5df0488653d58u);
    for (size_t i = 0; i < sizeof page; i++) page[i] = (uint8_t)i;
    CHECK(plover_cityhash64(page, sizeof page) == 0x9adde01425f78614u);
    memset(page, 0xff, sizeof page);
    CHECK(plover_cityhash64(page, sizeof page) == 0x2b5e63a363df7394u);
    CHECK(plover_cityhash64("", 0) == 0x9ae16a3b2f90404fu);
}

/* Each item belongs to one thread, so a plain counter is enough. */
static void count(void *context, size_t from, size_t to)
{
    for (uint8_t *times = context; from < to; from++) times[from]++;
}

static void test_pool(void)
{
    static const size_t SIZES[] = {0, 1, 63, 256, 257, 1000, 100000};
    uint8_t *times = malloc(100001), *once = malloc(100000);
    memset(once, 1, 100000);
    for (unsigned threads = 1; threads <= 8; threads++) {
        plover_pool *pool = plover_pool_new(threads);
        for (unsigned i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
            memset(times, 0, 100001);
            plover_pool_run(pool, count, times, SIZES[i]);
            CHECK(!memcmp(times, once, SIZES[i]) && times[SIZES[i]] == 0);
        }
        plover_pool_free(pool);
    }
    free(times), free(once);
}

static void test_pages(void)
{
    uint8_t *ram = calloc(PAGES, PLOVER_PAGE), *copy = calloc(PAGES, PLOVER_PAGE);
    uint32_t index[PAGES], out[PAGES], bad = PAGES;
    uint64_t hashes[PAGES], alone[PAGES], bitmap[WORDS] = {0}, other[WORDS] = {0};
    for (uint32_t i = 0; i < PAGES; i++) index[i] = i, memset(ram + (size_t)i * PLOVER_PAGE, (int)(i % 251), PLOVER_PAGE);
    for (unsigned threads = 1; threads <= 4; threads++) {
        plover_pool *pool = plover_pool_new(threads);
        CHECK(plover_pool_threads(pool) == threads);
        for (int round = 0; round < 200; round++) {
            memset(hashes, 0, sizeof hashes);
            CHECK(plover_hash_pages(pool, ram, PAGES, index, PAGES, hashes, NULL) == 0);
        }
        CHECK(plover_hash_pages(pool, ram, PAGES, &bad, 1, hashes, NULL) == -ERANGE);
        plover_pool_free(pool);
        for (uint32_t i = 0; i < PAGES; i++) alone[i] = plover_cityhash64(ram + (size_t)i * PLOVER_PAGE, PLOVER_PAGE);
        CHECK(!memcmp(hashes, alone, sizeof hashes));
    }
    alone[3]++, alone[999]++;
    CHECK(plover_compare(hashes, alone, index, PAGES, out) == 2 && out[0] == 3 && out[1] == 999);
    CHECK(plover_compare(hashes, alone, NULL, PAGES, out) == 2 && out[0] == 3 && out[1] == 999);
    CHECK(plover_compare(hashes, alone, index + 500, 10, out) == 1 && out[0] == 503 && plover_compare(NULL, alone, NULL, 1, out) < 0);
    CHECK(plover_nonzero(ram, PAGES, index, PAGES, out) == PAGES - 4);
    CHECK(plover_gather(ram, PAGES, index + 10, 5, copy) == 0 && !memcmp(copy, ram + 10 * PLOVER_PAGE, 5 * PLOVER_PAGE));
    CHECK(plover_gather(ram, PAGES, &bad, 1, copy) == -ERANGE);
    CHECK(plover_apply(ram, PAGES, &bad, 1, copy) == -ERANGE);
    CHECK(plover_apply(ram, PAGES, index, 5, copy) == 0 && !memcmp(ram, copy, 5 * PLOVER_PAGE));
    bitmap[0] = 5, other[WORDS - 1] = 1;
    CHECK(plover_bitmap_union(bitmap, other, WORDS) == 3);
    CHECK(plover_bitmap_pages(bitmap, PAGES, out, PAGES) == 3 && out[0] == 0 && out[1] == 2 && out[2] == (WORDS - 1) * 64);
    CHECK(plover_bitmap_pages(bitmap, PAGES, out, 2) == -ERANGE);
    bitmap[WORDS - 1] = UINT64_C(1) << 63;
    CHECK(plover_bitmap_pages(bitmap, PAGES, out, PAGES) == -EINVAL);
    CHECK(plover_pool_new(100000) == NULL);
    free(ram), free(copy);
}

/* Random pages, and pages of zeros or ones with one bit changed, or none. */
static uint8_t *odd_pages(void)
{
    uint8_t *ram = calloc(PAGES, PLOVER_PAGE);
    if (!ram) abort();
    srand(2);
    for (unsigned i = 0; i < PAGES; i++) {
        uint8_t *page = ram + (size_t)i * PLOVER_PAGE;
        if (i % 4 == 1) memset(page, 0xff, PLOVER_PAGE);
        if (i % 4 == 2) for (unsigned at = 0; at < PLOVER_PAGE; at++) page[at] = (uint8_t)(rand() >> 7);
        if (i > 8) page[(unsigned)rand() % PLOVER_PAGE] ^= (uint8_t)(1u << i % 8);
    }
    ram[12 * PLOVER_PAGE] = 1, ram[17 * PLOVER_PAGE - 1] = 1; /* the first and the last byte */
    return ram;
}

static void test_kernels(void)
{
    uint8_t *ram = odd_pages();
    uint32_t index[PAGES];
    uint64_t hashes[PAGES + 1], alone[PAGES];
    plover_pool *pools[] = {NULL, plover_pool_new(3)};
    const char *kernel;
    unsigned kernels = 0;
    for (uint32_t i = 0; i < PAGES; i++) index[i] = i * 7 % PAGES;
    for (uint32_t i = 0; i < PAGES; i++) alone[i] = plover_cityhash64(ram + (size_t)index[i] * PLOVER_PAGE, PLOVER_PAGE);
    for (; (kernel = plover_hash_kernel(kernels)); kernels++)
        for (size_t n = 0; n <= PAGES; n += n < 20 ? 1 : 490)
            for (unsigned p = 0; p < 2; p++) {
                memset(hashes, 0xa5, sizeof hashes);
                CHECK(plover_hash_pages(pools[p], ram, PAGES, index, n, hashes, kernel) == 0);
                CHECK(!memcmp(hashes, alone, n * sizeof *hashes) && hashes[n] == 0xa5a5a5a5a5a5a5a5u);
            }
    CHECK(kernels >= 2 && !strcmp(plover_hash_kernel(kernels - 1), "plain") && !plover_hash_kernel(1000));
    CHECK(plover_hash_pages(NULL, ram, PAGES, index, 1, hashes, "magic") == -EINVAL);
    printf("kernels:");
    for (unsigned i = 0; i < kernels; i++) printf(" %s", plover_hash_kernel(i));
    puts("");
    plover_pool_free(pools[1]);
    free(ram);
}

/* In page i, the secondary has other bytes in blocks 0, i % 64 and 63. */
static void test_blocks(void)
{
    uint8_t *ours = odd_pages(), *theirs = malloc((size_t)PAGES * PLOVER_PAGE), *blocks = malloc((size_t)PAGES * PLOVER_PAGE);
    uint8_t *patched = malloc((size_t)PAGES * PLOVER_PAGE);
    uint32_t index[PAGES], bad = PAGES;
    uint16_t *hashes = malloc(PAGES * PLOVER_BLOCKS * sizeof *hashes);
    uint64_t masks[PAGES + 1];
    plover_pool *pools[] = {NULL, plover_pool_new(3)};
    memcpy(theirs, ours, (size_t)PAGES * PLOVER_PAGE);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint8_t *page = theirs + (size_t)i * PLOVER_PAGE;
        index[i] = i * 7 % PAGES;
        page[0] ^= 1, page[PLOVER_PAGE - 1] ^= 0x80, page[i % 64 * PLOVER_BLOCK + i % 61] ^= 0x10;
    }
    for (unsigned p = 0; p < 2; p++) {
        memset(hashes, 0, PAGES * PLOVER_BLOCKS * sizeof *hashes);
        masks[PAGES] = 42;
        CHECK(plover_block_hashes(pools[p], theirs, PAGES, index, PAGES, hashes) == 0);
        CHECK(plover_block_masks(pools[p], theirs, PAGES, index, PAGES, hashes, masks) == 0);
        CHECK(plover_count_blocks(masks, PAGES) == 0);
        CHECK(plover_block_masks(pools[p], ours, PAGES, index, PAGES, hashes, masks) == 0 && masks[PAGES] == 42);
        for (unsigned i = 0; i < PAGES; i++) CHECK(masks[i] == (UINT64_C(1) | UINT64_C(1) << 63 | UINT64_C(1) << index[i] % 64));
    }
    size_t n = (size_t)plover_count_blocks(masks, PAGES);
    CHECK(plover_gather_blocks(ours, PAGES, index, PAGES, masks, blocks, n) == 0);
    CHECK(plover_patch_pages(theirs, PAGES, index, PAGES, masks, blocks, n, patched) == 0);
    CHECK(memcmp(theirs, ours, (size_t)PAGES * PLOVER_PAGE) != 0);
    CHECK(plover_gather(ours, PAGES, index, PAGES, theirs) == 0 && !memcmp(patched, theirs, (size_t)PAGES * PLOVER_PAGE));
    CHECK(plover_gather_blocks(ours, PAGES, index, PAGES, masks, blocks, n - 1) == -ERANGE);
    CHECK(plover_gather_blocks(ours, PAGES, &bad, 1, masks, blocks, (size_t)plover_count_blocks(masks, 1)) == -ERANGE);
    CHECK(plover_patch_pages(ours, PAGES, index, PAGES, masks, blocks, n + 1, patched) == -ERANGE);
    CHECK(plover_patch_pages(ours, PAGES, &bad, 1, masks, blocks, (size_t)plover_count_blocks(masks, 1), patched) == -ERANGE);
    CHECK(plover_block_hashes(NULL, ours, PAGES, &bad, 1, hashes) == -ERANGE);
    CHECK(plover_block_masks(NULL, ours, PAGES, &bad, 1, hashes, masks) == -ERANGE);
    CHECK(plover_block_masks(NULL, ours, PAGES, index, 1, NULL, masks) == -EINVAL);
    CHECK(plover_patch_pages(ours, PAGES, index, 0, NULL, NULL, 0, NULL) == 0 && plover_count_blocks(NULL, 0) == 0);
    plover_pool_free(pools[1]);
    free(ours), free(theirs), free(blocks), free(patched), free(hashes);
}

static void test_bitmap_of(void)
{
    uint32_t index[] = {0, 63, 64, 99}, out[4];
    uint64_t bitmap[3] = {42, 42, 42};
    CHECK(plover_bitmap_of(index, 4, bitmap, 100) == 0 && bitmap[2] == 42);
    CHECK(plover_bitmap_pages(bitmap, 100, out, 4) == 4 && !memcmp(out, index, sizeof out));
    CHECK(plover_bitmap_of(index, 4, bitmap, 99) == -ERANGE && plover_bitmap_of(NULL, 0, NULL, 0) == 0);
    CHECK(plover_bitmap_of(NULL, 1, bitmap, 99) == -EINVAL);
}

/* The child maps the file, then writes one byte to each page whose number comes on its standard input. */
static int child(const char *path)
{
    int fd = open(path, O_RDWR);
    uint8_t *ram = mmap(NULL, (size_t)PAGES * PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ram == MAP_FAILED) return 1;
    printf("%p\n", (void *)ram);
    fflush(stdout);
    for (unsigned page; scanf("%u", &page) == 1;) {
        if (page < PAGES) ram[(size_t)page * PLOVER_PAGE]++;
        printf("done\n");
        fflush(stdout);
    }
    return 0;
}

static int fetched(plover_tracker *t, uint64_t *bitmap)
{
    memset(bitmap, 0, WORDS * sizeof *bitmap);
    return (int)plover_tracker_fetch(t, bitmap, WORDS);
}

/* given: QEMU gets descriptors in place of the names of the device and of the file for its note. */
static void test_trackers(const char *self, const char *build, bool given)
{
    char path[] = "/dev/shm/plover-test-XXXXXX", uffd_file[] = "/dev/shm/plover-uffd-XXXXXX", preload[4096], err[300], line[64];
    int fd = mkstemp(path), to[2], from[2], uffd = -1, number, ufd = mkstemp(uffd_file);
    void *address = NULL;
    uint64_t bitmap[WORDS], referee[WORDS];
    plover_tracker *wp = NULL, *scan = NULL, *soft = NULL, *again = NULL;
    snprintf(preload, sizeof preload, "%s/libplover_preload.so", build);
    close(ufd);
    if (ftruncate(fd, (off_t)PAGES * PLOVER_PAGE) || pipe(to) || pipe(from)) abort();
    uint8_t *ram = mmap(NULL, (size_t)PAGES * PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid = fork();
    if (!pid) {
        dup2(to[0], 0), dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        setenv("LD_PRELOAD", preload, 1);
        if (given) {
            int device = open("/dev/userfaultfd", O_RDWR);
            if (device >= 0 && dup2(device, 41) == 41) setenv("PLOVER_UFFD_DEVICE_FD", "41", 1);
            if (dup2(open(uffd_file, O_WRONLY), 42) == 42) setenv("PLOVER_UFFD_FD", "42", 1);
        } else {
            setenv("PLOVER_UFFD_FILE", uffd_file, 1);
        }
        execl(self, self, "--child", path, (char *)NULL);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    FILE *say = fdopen(to[1], "w"), *hear = fdopen(from[0], "r"), *told;
    CHECK(fgets(line, sizeof line, hear) && sscanf(line, "%p", &address) == 1);
    told = fopen(uffd_file, "r");
    int pid_told = 0;
    CHECK(told && fscanf(told, "%d %d", &pid_told, &number) == 2 && pid_told == pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    uffd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    CHECK(uffd >= 0);
    int rc = plover_tracker_open("uffd-wp", pid, (uint64_t)(uintptr_t)address, ram, PAGES, uffd, NULL, &wp, err, sizeof err);
    if (rc) fprintf(stderr, "%s\n", err);
    CHECK(rc == 0);
    CHECK(plover_tracker_open("scan", pid, (uint64_t)(uintptr_t)address, ram, PAGES, -1, NULL, &scan, err, sizeof err) == 0);
    CHECK(fetched(wp, bitmap) == 0);
    srand(1);
    for (int round = 0; wp && round < 20; round++) {
        for (int i = 0; i < 30; i++) {
            fprintf(say, "%d\n", rand() % PAGES);
            fflush(say);
            CHECK(fgets(line, sizeof line, hear) != NULL);
        }
        CHECK(fetched(wp, bitmap) == fetched(scan, referee));
        CHECK(!memcmp(bitmap, referee, sizeof bitmap));
    }
    ram[77 * PLOVER_PAGE]++; /* only "scan" sees our own write */
    CHECK(fetched(wp, bitmap) == 0 && fetched(scan, referee) == 1);
    int second = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0); /* as a restarted daemon does */
    CHECK(plover_tracker_open("uffd-wp", pid, (uint64_t)(uintptr_t)address, ram, PAGES, second, NULL, &again, err, sizeof err) == 0);
    fprintf(say, "5\n"), fflush(say);
    CHECK(fgets(line, sizeof line, hear) && again && fetched(again, bitmap) == 1 && bitmap[0] == 1 << 5);
    rc = plover_tracker_open("soft-dirty", pid, (uint64_t)(uintptr_t)address, ram, PAGES, -1, NULL, &soft, err, sizeof err);
    CHECK(rc == 0 || (rc == -EOPNOTSUPP && strstr(err, "CONFIG_MEM_SOFT_DIRTY")));
    if (rc == 0) {
        fprintf(say, "9\n"), fflush(say);
        CHECK(fgets(line, sizeof line, hear) && fetched(soft, bitmap) >= 1 && bitmap[0] & 1 << 9);
    }
    plover_tracker *none = NULL;
    CHECK(plover_tracker_open("magic", pid, 0, ram, PAGES, -1, NULL, &none, err, sizeof err) == -EINVAL && strstr(err, "uffd-wp"));
    CHECK(plover_tracker_open("uffd-wp", pid, 0, ram, PAGES, -1, NULL, &none, err, sizeof err) == -EBADF && !none);
    CHECK(plover_tracker_fetch(scan, bitmap, WORDS - 1) == -EINVAL);
    fclose(say), fclose(hear);
    if (told) fclose(told);
    waitpid(pid, NULL, 0);
    plover_tracker_close(wp), plover_tracker_close(scan), plover_tracker_close(soft), plover_tracker_close(again);
    close(pidfd), close(fd), munmap(ram, (size_t)PAGES * PLOVER_PAGE);
    unlink(path), unlink(uffd_file);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--child")) return child(argv[2]);
    if (argc != 2) return fprintf(stderr, "usage: %s BUILD-FOLDER\n", argv[0]), 2;
    signal(SIGPIPE, SIG_IGN);
    test_known_answers();
    test_pool();
    test_pages();
    test_kernels();
    test_blocks();
    test_bitmap_of();
    test_trackers(argv[0], argv[1], false);
    test_trackers(argv[0], argv[1], true);
    printf("native: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
