/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The cost of a commit and of a transfer of pages over RDMA, with the runtime's own calls. Built only for `make bench-rdma`.
 *
 *   rdma_bench serve  DEVICE GID PORT                               the follower: serves one session after the other
 *   rdma_bench commit DEVICE GID PORT HOST PAYLOAD COUNT            one frame, its completion, the next frame
 *   rdma_bench busy   DEVICE GID PORT HOST PAYLOAD COUNT            the same, to a follower that polls without a pause
 *   rdma_bench pages  DEVICE GID PORT HOST PART-KIB COUNT           pages that the card gathers from guest memory: raw frames
 *   rdma_bench frames DEVICE GID PORT HOST PART-KIB COUNT           pages copied into ordinary frames
 *
 * The leader prints one line of JSON. bench/rdma_inside.py also talks to `serve`: the two structs are the protocol.
 */
#include "plover_native.h"
#include "plover_rdma.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum mode { COMMIT = 1, FRAMES = 2, PAGES = 3, BUSY = 4 }; /* BUSY: commits to a follower that never sleeps */
enum { PAGE = 4096, DEPTH = 512, RING = 8 << 20, STAGING = 16 << 20, GUEST = 64 << 20, KEPT = 4096 };
/* RING, DEPTH, KEPT and these equal the runtime's (config/settings.py, rdma/stream.py, protocol/pipe.py, rdma/ring_watch.py). */
static const int64_t SPIN = 20000, PAUSE = 500000, LIMIT = 100000000, HALF_FROM = 100000, HALF_TO = 50000000;
static const int64_t PATIENCE_NS = 20ll * 1000000000;
static const uint64_t ID = 7; /* of every ring */

typedef struct { /* the first message of each end; the leader's chooses the session, the follower returns mode and count */
    uint32_t mode, rkey;
    uint64_t count, part, ring; /* frames or writes; bytes of pages in each; address of the sender's ring */
    plover_address address;
} hello;

typedef struct { uint64_t count, hash; } verdict; /* the follower's last message: frames read; hash of its staging memory */

typedef struct {
    plover_card *card;
    plover_qp *qp;
    plover_region *in_region, *out_region;
    plover_memory in, out, theirs; /* the ring that the peer writes; our copy of the peer's ring; the peer's ring */
    plover_address own;
    uint64_t position, head, tail, done; /* how far we have read, we have written, they have read; completed requests */
} end;

static char why[400];

static void die(const char *what)
{
    fprintf(stderr, "rdma_bench: %s: %s\n", what, why[0] ? why : strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void rest(int64_t ns) { nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL); }

static void *memory(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) die("memory");
    return at;
}

static void tell(int fd, const void *what, size_t bytes)
{
    if (send(fd, what, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) die("the peer is gone");
}

static void hear(int fd, void *what, size_t bytes)
{
    if (recv(fd, what, bytes, MSG_WAITALL) != (ssize_t)bytes) die("the peer has not answered");
}

/* ---- both ends ------------------------------------------------------------------------------------------------------ */
static void open_end(end *e, char **arguments, uint64_t in_bytes)
{
    const int all = PLOVER_REMOTE_WRITE | PLOVER_REMOTE_READ;
    memset(e, 0, sizeof *e);
    if (plover_card_open(arguments[0], 1, (unsigned)atoi(arguments[1]), 0, &e->card, why, sizeof why) ||
        plover_region_new(e->card, memory(in_bytes + PAGE), in_bytes + PAGE, all, &e->in_region, &e->in, why, sizeof why) ||
        plover_region_new(e->card, memory(RING + PAGE), RING + PAGE, 0, &e->out_region, &e->out, why, sizeof why) ||
        plover_qp_new(e->card, DEPTH, &e->qp, &e->own, why, sizeof why))
        die("card, memory or connection");
    e->in.length = in_bytes, e->out.length = RING;
    e->position = e->head = e->tail = RING;
}

static void connect_end(end *e, const hello *peer)
{
    const plover_patience patience = {.timeout = 16, .retry = 6, .hop_limit = 64};
    e->theirs = (plover_memory){peer->ring, RING, 0, peer->rkey};
    if (plover_qp_connect(e->qp, &peer->address, PLOVER_REMOTE_WRITE | PLOVER_REMOTE_READ, &patience, why, sizeof why))
        die("connection");
}

static void close_end(end *e)
{
    void *in = (void *)(uintptr_t)e->in.address, *out = (void *)(uintptr_t)e->out.address;
    const size_t in_bytes = e->in.length;
    plover_qp_free(e->qp);
    plover_region_free(e->in_region), plover_region_free(e->out_region);
    plover_card_close(e->card);
    munmap(in, in_bytes + PAGE), munmap(out, RING + PAGE);
}

static void *in_memory(const end *e, uint64_t offset) { return (uint8_t *)(uintptr_t)e->in.address + offset; }

/* Take completions; a failed request ends the run. */
static unsigned complete(end *e, int64_t spin)
{
    plover_completion done[64];
    const int n = plover_qp_poll(e->qp, done, 64, spin);
    if (n < 0) die("completions");
    for (int i = 0; i < n; i++)
        if (done[i].status) {
            snprintf(why, sizeof why, "%s", plover_status_name(done[i].status));
            die("a request failed");
        }
    e->done += (unsigned)n;
    return (unsigned)n;
}

/* 1: our frame is on its way; 0: there is no room. As in RdmaPipe.write, `keep` bytes of the ring stay free. */
static int put(end *e, const void *data, size_t length, uint64_t keep)
{
    if (e->head - e->tail + keep > e->out.length) return 0;
    const int rc = plover_qp_frame(e->qp, &e->out, &e->theirs, ID, e->tail - keep, &e->head, data, length, 1);
    if (rc && rc != -EAGAIN) errno = -rc, die("a frame");
    return !rc;
}

static int next(end *e, plover_range *payload)
{
    return plover_ring_next(in_memory(e, 0), RING, ID, &e->position, payload) > 0;
}

/* Wait for the next frame, as the daemon's thread does. */
static plover_range wait_next(end *e, int64_t spin)
{
    static const volatile uint32_t never = 0;
    const int64_t until = now_ns() + PATIENCE_NS;
    plover_range payload;
    int64_t half = HALF_FROM;
    while (!next(e, &payload)) {
        if (now_ns() > until) die("no frame");
        if (plover_ring_wait(in_memory(e, 0), RING, ID, e->position, spin, PAUSE, LIMIT, &never) != 1) continue;
        if (next(e, &payload)) break;
        rest(half); /* the frame is incomplete */
        half = half * 2 < HALF_TO ? half * 2 : HALF_TO;
    }
    return payload;
}

/* ---- the follower --------------------------------------------------------------------------------------------------- */
static void say_read_up_to(end *e)
{
    uint8_t frame[9] = {'r'};
    memcpy(frame + 1, &e->position, 8);
    while (!put(e, frame, sizeof frame, 0)) complete(e, 1000000);
}

/* Copy every frame's payload out, as the daemon does. */
static uint64_t read_frames(end *e, const hello *leader, uint8_t *staging)
{
    uint64_t told = e->position, at = 0, n = 0;
    for (; n < leader->count; n++) {
        const plover_range payload = wait_next(e, leader->mode == BUSY ? LIMIT : SPIN);
        complete(e, 0);
        if (leader->mode != FRAMES && leader->mode != PAGES) {
            uint64_t number;
            memcpy(&number, in_memory(e, payload.offset), 8);
            if (number != n) break;
            memcpy(in_memory(e, RING), &e->position, 8); /* the leader reads it */
            continue;
        }
        const unsigned kind = leader->mode == FRAMES; /* a raw frame has no byte that tells its kind */
        if (payload.length != leader->part + kind) break;
        memcpy(staging + at, in_memory(e, payload.offset + kind), leader->part);
        at = (at + leader->part) % STAGING;
        if (e->position - told > RING / 4 || n == leader->count - 1) say_read_up_to(e), told = e->position;
    }
    return n;
}

static void follow(int fd, char **arguments)
{
    hello leader, own;
    char over;
    end e;
    hear(fd, &leader, sizeof leader);
    const int transfer = leader.mode == FRAMES || leader.mode == PAGES;
    if (transfer && (!leader.part || leader.part > RING / 4 || STAGING % leader.part)) die("a strange leader");
    open_end(&e, arguments, RING);
    connect_end(&e, &leader);
    own = (hello){leader.mode, e.in.rkey, leader.count, leader.part, e.in.address, e.own};
    uint8_t *staging = memory(STAGING);
    tell(fd, &own, sizeof own);
    verdict read = {leader.count, 0};
    read.count = read_frames(&e, &leader, staging);
    hear(fd, &over, 1);
    if (transfer) read.hash = plover_cityhash64(staging, STAGING);
    tell(fd, &read, sizeof read);
    munmap(staging, STAGING);
    close_end(&e);
}

_Noreturn static void serve(char **arguments)
{
    const int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (const struct sockaddr *)&any, sizeof any) || listen(listener, 4)) die("the port");
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd < 0) die("accept");
        follow(fd, arguments);
        close(fd);
    }
}

/* ---- the leader ----------------------------------------------------------------------------------------------------- */
static int join(end *e, char **arguments, uint32_t mode, uint64_t count, uint64_t part)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
    hello own, follower;
    open_end(e, arguments, RING);
    own = (hello){mode, e->in.rkey, count, part, e->in.address, e->own};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (inet_pton(AF_INET, arguments[3], &to.sin_addr) != 1) die("HOST");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("follower");
    tell(fd, &own, sizeof own);
    hear(fd, &follower, sizeof follower);
    connect_end(e, &follower);
    return fd;
}

static void check(end *e, int fd, uint64_t count, uint64_t hash)
{
    verdict read;
    tell(fd, "", 1);
    hear(fd, &read, sizeof read);
    if (read.count != count || read.hash != hash) {
        snprintf(why, sizeof why, "%llu of %llu read, hash %#llx, %#llx is right", (unsigned long long)read.count,
                 (unsigned long long)count, (unsigned long long)read.hash, (unsigned long long)hash);
        die("the follower has something else");
    }
    close(fd);
    close_end(e);
}

/* Look how far the follower has read, by an RDMA READ, as the daemon does. */
static void look_at_tail(end *e)
{
    const uint64_t before = e->done;
    const plover_segment into = {e->out.address + RING, 8, e->out.lkey};
    if (plover_qp_read(e->qp, &into, e->theirs.address + RING, e->theirs.rkey, 2)) die("a read");
    for (const int64_t until = now_ns() + PATIENCE_NS; e->done == before && now_ns() < until;) complete(e, 1000000);
    uint64_t tail;
    memcpy(&tail, (void *)(uintptr_t)(e->out.address + RING), 8);
    if (tail > e->tail && tail <= e->head) e->tail = tail;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int commit(char **arguments, enum mode mode, uint64_t payload, uint64_t count)
{
    const uint64_t warm = count / 10;
    double *us = calloc(count, sizeof *us);
    uint8_t data[4096] = {0};
    end e;
    if (!us || payload < 8 || payload > sizeof data) die("arguments");
    const int fd = join(&e, arguments, mode, count + warm, payload);
    for (uint64_t n = 0; n < count + warm; n++) {
        memcpy(data, &n, sizeof n);
        if (e.head - e.tail > RING / 2) look_at_tail(&e);
        const int64_t began = now_ns();
        if (!put(&e, data, payload, 0)) die("no room");
        while (!complete(&e, 1000000))
            if (now_ns() - began > PATIENCE_NS) die("no completion");
        if (n >= warm) us[n - warm] = (double)(now_ns() - began) / 1e3;
    }
    check(&e, fd, count + warm, 0);
    qsort(us, count, sizeof *us, by_value);
    printf("{\"p50_us\": %.2f, \"p99_us\": %.2f, \"count\": %llu}\n", us[count / 2], us[count * 99 / 100],
           (unsigned long long)count);
    return 0;
}

/* Dirty pages are scattered. */
static uint8_t *page_of(uint8_t *guest, uint64_t n) { return guest + n * 4099 % (GUEST / PAGE) * PAGE; }

static uint8_t *guest_memory(void)
{
    uint8_t *guest = memory(GUEST);
    uint64_t x = 88172645463325252ull;
    for (size_t at = 0; at < GUEST; at += 8) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(guest + at, &x, 8);
    }
    return guest;
}

static uint64_t expected(uint8_t *guest, uint64_t pages)
{
    uint8_t *staging = memory(STAGING);
    for (uint64_t n = pages > STAGING / PAGE ? pages - STAGING / PAGE : 0; n < pages; n++)
        memcpy(staging + n * PAGE % STAGING, page_of(guest, n), PAGE);
    const uint64_t hash = plover_cityhash64(staging, STAGING);
    munmap(staging, STAGING);
    return hash;
}

/* Sleep until a request is done, or for 1 ms: the follower may have told how far it has read. */
static void wait_done(end *e)
{
    struct pollfd fd = {.fd = plover_qp_fd(e->qp), .events = POLLIN};
    plover_qp_arm(e->qp);
    if (!complete(e, 0)) poll(&fd, 1, 1), complete(e, 0);
}

/* As put(), with pages of the guest that the card itself reads. */
static int put_pages(end *e, uint8_t *guest, const plover_memory *at, uint64_t first, uint64_t part)
{
    uint32_t index[RING / 4 / PAGE];
    if (e->head - e->tail + KEPT > e->out.length) return 0;
    for (uint64_t i = 0; i < part / PAGE; i++) index[i] = (uint32_t)((page_of(guest, first + i) - guest) / PAGE);
    const int rc = plover_qp_pages(e->qp, &e->out, &e->theirs, ID, e->tail - KEPT, &e->head, at, index, part / PAGE, 1);
    if (rc && rc != -EAGAIN) errno = -rc, die("pages");
    return !rc;
}

static void copy_pages(uint8_t *frame, uint8_t *guest, uint64_t first, uint64_t part)
{
    *frame = 's';
    for (uint64_t i = 0; i < part / PAGE; i++) memcpy(frame + 1 + i * PAGE, page_of(guest, first + i), PAGE);
}

/* `at`: the guest's memory as the card knows it, or NULL if pages are to be copied. */
static void send_pages(end *e, uint8_t *guest, const plover_memory *at, uint64_t part, uint64_t count)
{
    uint8_t *frame = memory(part + 1);
    plover_range payload;
    int64_t until = now_ns() + 3 * PATIENCE_NS;
    for (uint64_t n = 0, copied = 0; n < count || e->tail < e->head;) {
        const uint64_t first = n * (part / PAGE);
        if (!at && n < count && copied == n) copy_pages(frame, guest, first, part), copied++;
        while (next(e, &payload)) memcpy(&e->tail, in_memory(e, payload.offset + 1), 8);
        if (n < count && (at ? put_pages(e, guest, at, first, part) : put(e, frame, part + 1, KEPT))) n++;
        else wait_done(e);
        if (now_ns() > until) die("frames are not read");
    }
}

static int transfer(char **arguments, enum mode mode, uint64_t part, uint64_t count)
{
    if (!part || !count || STAGING % part || part > RING / 4) die("arguments");
    uint8_t *guest = guest_memory();
    plover_region *region;
    plover_memory at;
    end e;
    const int fd = join(&e, arguments, mode, count, part);
    if (plover_region_new(e.card, guest, GUEST, 0, &region, &at, why, sizeof why)) die("guest memory");
    const int64_t began = now_ns();
    send_pages(&e, guest, mode == PAGES ? &at : NULL, part, count);
    const double s = (double)(now_ns() - began) / 1e9;
    plover_region_free(region);
    check(&e, fd, count, expected(guest, count * (part / PAGE)));
    printf("{\"mb_per_s\": %.3f, \"bytes\": %llu}\n", (double)(part * count) / s / 1e6, (unsigned long long)(part * count));
    return 0;
}

int main(int argc, char **argv)
{
    char **rest_of = argv + 2;
    if (argc == 5 && !strcmp(argv[1], "serve")) serve(rest_of);
    if (argc == 8) {
        const uint64_t size = strtoull(argv[6], NULL, 10), count = strtoull(argv[7], NULL, 10);
        if (!strcmp(argv[1], "commit")) return commit(rest_of, COMMIT, size, count);
        if (!strcmp(argv[1], "busy")) return commit(rest_of, BUSY, size, count);
        if (!strcmp(argv[1], "frames")) return transfer(rest_of, FRAMES, size << 10, count);
        if (!strcmp(argv[1], "pages")) return transfer(rest_of, PAGES, size << 10, count);
    }
    return 2;
}
